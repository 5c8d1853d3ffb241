// npm's oidc-provider with a configuration for Flyte. Who starts it (oidc_provider.py) writes one line of JSON to standard
// input, gets one line with the issuer back, and ends it by closing standard input.
//
//   {"modules": DIR, "audience": URL, "hub": URL, "opaque": URL, "lifetime": S, "clients": [RFC 7591 ...], "users": [...], "trusted": [ISSUER ...]}
//
// Token exchange and the JWT grant are handlers of this file: oidc-provider has neither. They test the form of requests
// and answers, not a second reading of RFC 8693 and RFC 7523.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const lines = createInterface({ input: process.stdin });
const given = JSON.parse(await new Promise((resolve) => lines.once('line', resolve)));
lines.once('close', () => process.exit(0));

const require = createRequire(pathToFileURL(`${given.modules}/`));
const { default: Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')));
const jose = await import(pathToFileURL(require.resolve('jose')));

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const REFRESH_TOKEN = 'urn:ietf:params:oauth:token-type:refresh_token';
const JWT = 'urn:ietf:params:oauth:token-type:jwt';
const SCOPES = 'all offline';

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const signing = { ...privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), use: 'sig', alg: 'RS256' };

function resource(indicator) {
  const common = { scope: SCOPES, accessTokenTTL: given.lifetime };
  if (indicator === given.audience || indicator === given.hub) {
    return { ...common, audience: indicator, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } };
  }
  if (indicator === given.opaque) return { ...common, audience: indicator, accessTokenFormat: 'opaque' };
  throw new errors.InvalidTarget();
}

const provider = new Provider(issuer, {
  clients: given.clients,
  jwks: { keys: [signing] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  scopes: ['openid', 'offline_access', 'all', 'offline'],
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'ES256'] },
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'] },
  findAccount: (ctx, id) => given.users.includes(id)
    && { accountId: id, claims: () => ({ sub: id, name: id, preferred_username: id }) },
  pkce: { required: () => true },
  ttl: { DeviceCode: 600, AccessToken: given.lifetime, ClientCredentials: given.lifetime, RefreshToken: 3600 },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  expiresWithSession: () => false,
  formats: {
    customizers: {
      jwt(ctx, token, { payload }) {
        payload.scp = ['all'];
        if (token.act) payload.act = token.act;
      },
    },
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientAuthMethod !== 'none' },
    revocation: { enabled: true },
    userinfo: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => (oneOf ? oneOf[0] : given.audience),
      // Without this a login with `openid` gives a token for userinfo alone, which is what `profile` is for.
      useGrantedResource: (ctx) => ctx.oidc.client.clientId !== 'profile',
      getResourceServerInfo: (ctx, indicator) => resource(indicator),
    },
  },
});

async function verified(token, keys, from, audience) {
  try {
    const { payload } = await jose.jwtVerify(token, keys, { issuer: from, audience, requiredClaims: ['sub', 'exp'] });
    return payload;
  } catch (cause) {
    throw new errors.InvalidGrant('token is not acceptable', cause.code);
  }
}

// A token of ours, or one of an issuer that we trust which is meant for us; `keys` are fetched as discovery says.
async function trusted(token) {
  let claimed;
  try {
    claimed = jose.decodeJwt(token).iss;
  } catch (cause) {
    throw new errors.InvalidGrant('token is not a JWT', cause.code);
  }
  if (claimed === issuer) {
    const { kty, n, e } = signing;
    return verified(token, await jose.importJWK({ kty, n, e }, 'RS256'), issuer, [given.audience, given.hub]);
  }
  if (!given.trusted.includes(claimed)) throw new errors.InvalidGrant('issuer is not trusted');
  const { jwks_uri } = await (await fetch(`${claimed}/.well-known/openid-configuration`)).json();
  return verified(token, jose.createRemoteJWKSet(new URL(jwks_uri)), claimed, [issuer, `${issuer}/token`]);
}

async function answer(ctx, subject, act) {
  const { client, params } = ctx.oidc;
  const refused = (params.scope ?? '').split(' ').filter((scope) => scope && !SCOPES.split(' ').includes(scope));
  if (refused.length) throw new errors.InvalidScope('scope is not to be had', refused.join(' '));
  const wanted = resource(params.resource ?? given.audience);
  const token = new provider.AccessToken({
    client,
    accountId: subject.sub,
    scope: params.scope,
    gty: params.grant_type,
    resourceServer: new provider.ResourceServer(wanted.audience, wanted),
    expiresIn: Math.max(1, Math.min(given.lifetime, subject.exp - Math.floor(Date.now() / 1000))),
  });
  token.act = act;
  const wantsMore = params.requested_token_type === REFRESH_TOKEN;
  ctx.body = {
    access_token: await token.save(),
    token_type: 'Bearer',
    expires_in: token.expiration,
    scope: token.scope || undefined,
    refresh_token: wantsMore ? await lasting(client, subject.sub, token.scope, wanted.audience) : undefined,
    issued_token_type: params.grant_type === TOKEN_EXCHANGE ? (wantsMore ? REFRESH_TOKEN : ACCESS_TOKEN) : undefined,
  };
}

// A refresh token of `client` itself, as if `accountId` had signed in to it; beside an access token, as Keycloak does it.
async function lasting(client, accountId, scope, audience) {
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addResourceScope(audience, scope);
  return new provider.RefreshToken({
    accountId, client, scope, resource: audience, grantId: await grant.save(), gty: TOKEN_EXCHANGE, rotations: 0,
  }).save();
}

provider.registerGrantType(JWT_BEARER, async (ctx) => {
  const { assertion } = ctx.oidc.params;
  if (!assertion) throw new errors.InvalidRequest('missing assertion');
  await answer(ctx, await trusted(assertion));
}, ['assertion', 'scope', 'resource']);

// RFC 8693: section 2.2.2 wants invalid_request for a bad subject or actor; section 4.1 has the newest actor outermost.
provider.registerGrantType(TOKEN_EXCHANGE, async (ctx) => {
  const { params, client } = ctx.oidc;
  const shown = async (name) => {
    if (!params[name]) throw new errors.InvalidRequest(`missing ${name}`);
    if (![ACCESS_TOKEN, JWT].includes(params[`${name}_type`])) throw new errors.InvalidRequest(`bad ${name}_type`);
    return trusted(params[name]).catch((refused) => {
      throw new errors.InvalidRequest(`${name}: ${refused.error_description}`);
    });
  };
  const kinds = [undefined, ACCESS_TOKEN, ...(client.grantTypeAllowed('refresh_token') ? [REFRESH_TOKEN] : [])];
  if (!kinds.includes(params.requested_token_type)) {
    throw new errors.InvalidRequest('requested_token_type is not to be had');
  }
  const subject = await shown('subject_token');
  const actor = params.actor_token ? await shown('actor_token') : { sub: client.clientId, iss: issuer };
  if (subject.may_act && subject.may_act.sub !== actor.sub) throw new errors.InvalidRequest('actor may not act');
  await answer(ctx, subject, { sub: actor.sub, iss: actor.iss, ...(subject.act ? { act: subject.act } : {}) });
}, ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'requested_token_type', 'scope', 'resource', 'audience']);

provider.on('grant.success', ({ oidc }) => {
  console.log(JSON.stringify({ granted: oidc.params.grant_type, client: oidc.client.clientId }));
});
server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
