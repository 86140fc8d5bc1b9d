# Sourced by node/start and simulations/test: brings what a fresh Debian machine lacks.

# need PACKAGE COMMAND...: the Debian package is wanted unless the command succeeds. `install` brings what is wanted, and starts
# none of it: a service that came with a package (avahi-daemon) has nothing to say on this machine's network.
wanted=()
need() { "${@:2}" >/dev/null 2>&1 || wanted+=("$1"); }
install() {
    [ ${#wanted[@]} -eq 0 ] && return
    if [ "$(id -u)" != 0 ]; then
        echo "missing: ${wanted[*]} - run: sudo apt-get install ${wanted[*]}, then this again" >&2
        exit 1
    fi
    echo "installing ${wanted[*]}" >&2
    local log policy=/usr/sbin/policy-rc.d
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if [ -e $policy ]; then
        policy=
    else
        trap "rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
    fi
    { apt-get -q -o DPkg::Lock::Timeout=600 update &&
        apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends "${wanted[@]}"; } >"$log" 2>&1 ||
        { tail "$log" >&2; exit 1; }
    rm "$log"
    if [ "$policy" ]; then rm -f "$policy" && trap - EXIT; fi
    wanted=()
}

# A linker, and Rust by rustup where there is none: Debian's own is too old.
rust() {
    # rustup puts cargo where a shell that was not restarted does not look.
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    need gcc command -v cc
    need libc6-dev test -e /usr/include/stdlib.h
    if ! command -v cargo >/dev/null; then
        need curl command -v curl
        need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
    fi
    install
    command -v cargo >/dev/null && return
    echo "installing Rust into ${CARGO_HOME:-$HOME/.cargo} with rustup" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh |
        sh -s -- -y -q --profile minimal --no-modify-path >&2 ||
        { echo "Rust could not be installed: see https://rustup.rs, then run this again" >&2; exit 1; }
}
