#!/bin/bash
# Owns the system packages: finds out what is missing for the named jobs by looking for the thing
# itself, and gets it with apt-get.
#
# packages.sh JOB...    JOB: build, run, test, pcre1, compat, suite or valgrind

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/services.sh"

# What Debian starts when it is installed: the name of the service, and the program.
SERVICES=(nginx:/usr/sbin/nginx ssh:/usr/sbin/sshd openvpn:/usr/sbin/openvpn
    prometheus:/usr/bin/prometheus squid:/usr/sbin/squid
    tinyproxy:/usr/bin/tinyproxy apache2:/usr/sbin/apache2 haproxy:/usr/sbin/haproxy danted:/usr/sbin/danted)

missing=()

# need PACKAGE CHECK...: the package is missing if the check fails
need() {
    local package=$1
    shift

    if ! "$@"; then
        missing+=("$package")
    fi
}

has_header() {
    any_file "/usr/include/$1" /usr/include/*-linux-gnu/"$1" \
        || printf '#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1
}

has_browser() {
    has_command chromium || has_command chromium-browser || has_command google-chrome \
        || has_command google-chrome-stable
}

has_perl_module() {
    perl -M"$1" -e 1 2>/dev/null
}

# The servers lie where an ordinary user's PATH does not lead.
has_server() {
    has_command "$1" || [ -x "/usr/sbin/$1" ]
}

# OpenBSD's nc; others of the name know no proxy.
has_nc() {
    has_command nc.openbsd || { has_command nc && [[ $(nc -h 2>&1) == *-X* ]]; }
}

# Debian gives connect-proxy a second name.
has_connect_proxy() {
    has_command connect-proxy || has_command connect
}

has_pip() {
    has_command python3 && python3 -m pip --version >/dev/null 2>&1
}

has_node() {
    has_command node || has_command nodejs
}

# The python3 that the tests take first.
has_python_h2() {
    /usr/bin/python3 -c 'import h2' 2>/dev/null || python3 -c 'import h2' 2>/dev/null
}

# The library and the headers that come with the compiler, both of which bindgen needs.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0

    any_file /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h \
        && any_file /usr/lib/llvm-*/lib/libclang*.so* /usr/lib*/libclang*.so*
}

any_file() {
    local file

    for file in "$@"; do
        [ -f "$file" ] && return 0
    done

    return 1
}

has_certificates() {
    [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/ssl/cert.pem ]
}

need_for_build() {
    need gcc has_command cc
    need libc6-dev has_header stdlib.h
    need make has_command make
    need patch has_command patch
    need perl has_command perl
    need libclang-dev has_libclang
    need libpcre2-dev has_header pcre2.h
    need zlib1g-dev has_header zlib.h
    need libssl-dev has_header openssl/ssl.h
}

need_for_run() {
    need curl has_command curl
    need ca-certificates has_certificates
}

need_for_test() {
    need perl has_command prove
    need libnet-dns-perl has_perl_module Net::DNS::Nameserver
    need libio-socket-ssl-perl has_perl_module IO::Socket::SSL
    need openssl has_command openssl
    need curl has_command curl
    need chromium has_browser
    need iproute2 has_command ip
    need_for_clients
    need_for_parents
}

# The parents of t/parents_programs.t.
need_for_parents() {
    need squid has_server squid
    need tinyproxy has_server tinyproxy
    need apache2 has_server apache2
    need haproxy has_server haproxy
    need microsocks has_server microsocks
    need dante-server has_server danted
}

# The clients of t/clients_*.t.
need_for_clients() {
    need netcat-openbsd has_nc
    need ncat has_command ncat
    need socat has_command socat
    need corkscrew has_command corkscrew
    need connect-proxy has_connect_proxy
    need openssh-client has_command ssh
    need openssh-server has_server sshd
    need openvpn has_server openvpn
    need python3 has_command python3
    need python3-pip has_pip
    need nodejs has_node
    need python3-h2 has_python_h2
    need git has_command git
    need wget has_command wget
}

need_for_valgrind() {
    need valgrind has_command valgrind
}

need_for_pcre1() {
    need libpcre3-dev has_header pcre.h
}

need_for_compat() {
    need_for_pcre1
    need clang has_command clang
}

need_for_probes() {
    need bpftrace has_command bpftrace
}

need_for_suite() {
    need libfcgi-perl has_perl_module FCGI
    need libcryptx-perl has_perl_module CryptX
    need libprotocol-websocket-perl has_perl_module Protocol::WebSocket
}

find_missing() {
    local job

    missing=()

    for job in "$@"; do
        # A script that sources this one may have a job of its own.
        declare -F "need_for_$job" >/dev/null \
            || die "no job \"$job\": it is one of build, run, test, pcre1, compat, probes, suite, valgrind"
        "need_for_$job"
    done
}

install_missing() {
    local sudo=()

    if ! has_command apt-get; then
        die "this machine has no apt-get; install what Debian calls: ${missing[*]}"
    fi

    if ! is_root; then
        has_command sudo || die "as root, run: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi

    step "Installing system packages: ${missing[*]}"

    run_logged apt-update "${sudo[@]}" apt-get -q update \
        || die "apt-get can't reach Debian's packages; install them by hand: ${missing[*]}"

    install_stopped || die "apt-get did not install everything; install by hand: ${missing[*]}"
}

# Debian starts the servers that it installs. What is wanted here are files: a server that comes with
# them is not to run, neither now nor after the next boot.
install_stopped() (
    new_services=()

    for service in "${SERVICES[@]}"; do
        [ -x "${service#*:}" ] || new_services+=("$service")
    done

    # What a caller forbade stays forbidden.
    own_policy=
    trap allow_services EXIT
    forbid_services

    run_logged apt-install "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install "${missing[@]}" || exit 1

    for service in ${new_services[@]+"${new_services[@]}"}; do
        if [ -x "${service#*:}" ]; then
            keep_stopped "${service%%:*}"
        fi
    done
)

# keep_stopped SERVICE
keep_stopped() {
    note "Debian's $1 is installed now; it does not run"

    if [ -d /run/systemd/system ]; then
        "${sudo[@]}" systemctl --quiet disable "$1"
    fi
}

find_missing "$@"

if [ ${#missing[@]} -gt 0 ]; then
    install_missing
    find_missing "$@"
fi

if [ ${#missing[@]} -gt 0 ]; then
    die "still missing after the installation: ${missing[*]}"
fi
