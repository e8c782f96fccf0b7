#!/bin/sh
# Installs what `make test` needs and this Debian machine has not. Silent when nothing is missing.
#
#   tools/setup.sh          install it (through sudo, unless root)
#   tools/setup.sh --list   only say what would be installed
set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# program          package           what for
needed='
cc                 build-essential   linking
linux.uml          user-mode-linux   guests_with_the_in-kernel_DRBD
drbdadm            drbd-utils        the_real_drbdadm_and_drbdmeta_to_compare_with
ip                 iproute2          the_network_of_the_guests
nft                nftables          cutting_the_link_between_nodes
insmod             kmod              kernel_modules_in_guests
nbd-client         nbd-client        the_kernel_NBD_client_in_guests
lvm                lvm2              LVM_on_an_urbd_device_in_a_guest
mkfs.ext4          e2fsprogs         a_file_system_on_an_urbd_device
unshare            util-linux        a_network_namespace_for_each_test
perl               perl-base         the_agent_in_guests
nbdinfo            libnbd-bin        an_independent_NBD_client
qemu-img           qemu-utils        an_independent_NBD_client
fio                fio               load_with_verification
'

missing=$(echo "$needed" | while read -r program package purpose; do
    [ -z "$program" ] || command -v "$program" >/dev/null || echo "$package ($(echo "$purpose" | tr _ ' '))"
done | sort -u)

if [ "$(id -u)" = 0 ]; then as_root=; else as_root=sudo; fi
if [ ! -e /dev/net/tun ] && [ -z "${1:-}" ]; then
    echo "setup: making /dev/net/tun (the network of the guests)"
    $as_root mkdir -p /dev/net
    $as_root mknod -m 666 /dev/net/tun c 10 200
fi
[ -n "$missing" ] || exit 0
echo "setup: installing $(echo "$missing" | paste -sd ',' | sed 's/,/, /g')"
[ "${1:-}" != --list ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian; install the above yourself" >&2
    exit 1
fi
packages=$(echo "$missing" | cut -d ' ' -f 1)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086 # one word a package
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages </dev/null >"$log" 2>&1
}
install || { $as_root apt-get update </dev/null >"$log" 2>&1 && install; } || { cat "$log" >&2; exit 1; }
