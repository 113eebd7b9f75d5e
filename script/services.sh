# shellcheck shell=bash
# Owns keeping Debian from starting the servers that it installs: what is wanted of them are files.
# Sourced by the scripts that install. "sudo" is the command in front of each, an array that is empty
# for root.

POLICY=/usr/sbin/policy-rc.d
own_policy=${own_policy:-}
sudo=()

# Debian starts a service when it installs it, unless this file says no.
forbid_services() {
    [ -e $POLICY ] && return 0

    own_policy=1
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $POLICY >/dev/null
    "${sudo[@]}" chmod 755 $POLICY
}

# A file that was there before stays.
allow_services() {
    if [ -n "$own_policy" ]; then
        "${sudo[@]}" rm -f $POLICY
    fi
}
