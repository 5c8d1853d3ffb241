"""The auth agent: keeps what is long-lived, hands out what is short-lived, by rules, and writes down that it did."""
