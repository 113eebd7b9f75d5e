#!/bin/bash
# Owns "make bench" and its kin: builds nginx with the module, the driver, and nginx's tunnel module
# where its source is at hand, gets the other peers, and measures.
#
# bench.sh [quick] [docs]    quick: fewer peers, shorter; docs: into docs/performance.md

. "$(dirname "$0")/common.sh"

# The nginx whose own tunnel module is a peer.
TUNNEL_VERSION=1.31.4

PEERS=${PEERS:-}
ROUNDS=${ROUNDS:-}
CONGESTION=${CONGESTION:-}
RATE_SECONDS=${RATE_SECONDS:-}
OPENSSL=${OPENSSL:-}

core=$(core_of "$NGINX_VERSION")
objs=$BUILD/nginx-$NGINX_VERSION-bench-dynamic-$core/objs
out=$BUILD/bench
quick=0
docs=0

for word in "$@"; do
    case $word in
        quick) quick=1 ;;
        docs)  docs=1 ;;
        *)     die "\"$word\": it is one of quick, docs" ;;
    esac
done

# For the peers' certificates.
need_for_bench() {
    need openssl has_command openssl
}

chosen() {
    local list=${PEERS//,/ }

    if [ -n "$list" ]; then
        echo "$list"
    elif [ "$quick" -eq 1 ]; then
        echo "haproxy squid envoy"
    else
        echo "haproxy squid trafficserver apache tinyproxy envoy web-without"
    fi
}

has_tunnel_source() {
    [ -n "$NGINX_SOURCES" ] && [ -f "$NGINX_SOURCES/nginx-$TUNNEL_VERSION.tar.gz" ]
}

# shellcheck source=script/packages.sh
. script/packages.sh build bench
require_cargo

script/nginx-build.sh "$NGINX_VERSION" bench dynamic "$core"

args=(--nginx "$objs/nginx" --module "$objs/$MODULE.so" --core "$core")

if has_tunnel_source; then
    script/nginx-build.sh "$TUNNEL_VERSION" bench none stock
    args+=(--tunnel-nginx "$BUILD/nginx-$TUNNEL_VERSION-bench-none-stock/objs/nginx")
fi

if [ -n "$OPENSSL" ]; then
    script/openssl.sh "$OPENSSL"
    args+=(--openssl "$BUILD/openssl-$OPENSSL/lib")
fi

step "Building the driver"
cargo build --locked --release -p proxy-connect-bench

# shellcheck disable=SC2046
script/bench-peers.sh $(chosen)

mkdir -p "$out"
[ ! -x "$out/envoy" ] || args+=(--envoy "$out/envoy")

[ "$quick" -eq 0 ] || args+=(--quick)
[ -z "$PEERS" ] || args+=(--peers "$PEERS")
[ -z "$ROUNDS" ] || args+=(--rounds "$ROUNDS")
[ -z "$RATE_SECONDS" ] || args+=(--rate-seconds "$RATE_SECONDS")
[ -z "$CONGESTION" ] || args+=(--congestion "$CONGESTION")

if [ "$docs" -eq 1 ]; then
    args+=(--csv docs/performance.csv --svg docs/performance.svg --docs docs/performance.md)
else
    args+=(--csv "$out/bench.csv" --svg "$out/bench.svg")
fi

step "Measuring"
"${CARGO_TARGET_DIR:-$ROOT/target}/release/proxy-connect-bench" "${args[@]}"

[ "$docs" -eq 1 ] || note "as CSV and as a plot: $out/bench.csv, $out/bench.svg"
