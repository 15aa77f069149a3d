#!/bin/sh
# Makes the demo data sets again from Debian's kernel packages.
#
#   datasets/make-demo.sh [--cache DIR] [--output DIR] [demo] [demo-6.12] [demo-s390x]
#
#   --cache DIR   keep the downloaded packages there, and take from there what is already there
#                 (default: a temporary folder, removed at the end)
#   --output DIR  write DIR/demo and the others (default: the folder of this script)
#
# Which modules belong to a set is read from the set's golden.tsv, which this script does not
# write: it holds what libbpf makes of each module (see README.md). Every package, every base and
# every module is checked against its known sha256, so a run that ends well has made the very same
# BTF. The compressed files are the same bytes only with the same release of zstd (1.5.4).
#
# Needs: apt-get with Debian bookworm among its sources, dpkg-deb, pahole 1.24 (package dwarves),
# objcopy (binutils), xz, zstd. No root. Room: 3 GB for a while.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
output=$here
cache=
sets=

fail() {
    echo "make-demo.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --cache) cache=${2:?--cache needs a folder}; shift ;;
    --output) output=${2:?--output needs a folder}; shift ;;
    demo | demo-6.12 | demo-s390x) sets="$sets $1" ;;
    *) fail "unknown argument '$1' (see the head of this file)" ;;
    esac
    shift
done
sets=${sets:-demo demo-6.12 demo-s390x}
for tool in apt-get dpkg-deb pahole objcopy xz zstd; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/make-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
cache=${cache:-$work/packages}
mkdir -p "$cache"
cache=$(CDPATH='' cd -- "$cache" && pwd)

check_sha256() { # FILE SHA256
    echo "$2  $1" | sha256sum --check --quiet - >&2 || fail "$1: wrong sha256"
}

# Leaves a package in the cache and its path in $deb. apt gets lists and a cache of its own, so
# that a foreign architecture needs no change to the system.
download() { # PACKAGE VERSION ARCHITECTURE SHA256
    echo "$1 $2"
    deb=$cache/$1_$2_$3.deb
    if [ ! -e "$deb" ]; then
        mkdir -p "$work/apt/$3/lists/partial" "$work/apt/$3/cache/archives/partial"
        private_apt "$3" update
        (cd "$cache" && private_apt "$3" download "$1=$2")
    fi
    check_sha256 "$deb" "$4"
}

private_apt() { # ARCHITECTURE ARGUMENT...
    apt_state=$work/apt/$1
    apt_architecture=$1
    shift
    apt-get -q -o "APT::Architecture=$apt_architecture" \
        -o "APT::Architectures=$apt_architecture" -o "APT::Sandbox::User=$(id -un)" \
        -o "Dir::State::Lists=$apt_state/lists" -o "Dir::Cache=$apt_state/cache" "$@"
}

# Sets $target, $root and $made for a set: where it goes, where packages are unpacked, what is made.
begin() { # SET
    golden=$here/$1/golden.tsv
    target=$output/$1
    root=$work/$1
    made=$work/$1.made
    [ -r "$golden" ] || fail "$golden is missing"
    mkdir -p "$root" "$made"
}

publish() { # FOLDER-OF-MODULES
    mkdir -p "$target"
    rm -rf "${target:?}/$1"
    mv "$made/vmlinux.btf.zst" "$made/$1" "$target/"
    [ "$golden" -ef "$target/golden.tsv" ] || cp "$golden" "$target/"
    (cd "$target" && {
        echo golden.tsv
        echo vmlinux.btf.zst
        find "$1" -type f | LC_ALL=C sort
    } | xargs sha256sum >SHA256SUMS)
    rm -rf "$root" "$made"
}

make_standalone_set() { # SET ARCHITECTURE FLAVOUR SHA256-OF-PACKAGE SHA256-OF-BASE
    begin "$1"
    release=6.1.0-50-$3
    download "linux-image-$release-dbg" 6.1.176-1 "$2" "$4"
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --wildcards '*/boot/vmlinux-*' '*.ko'

    # Debian's amd64 kernels carry the BTF that their build made. Its s390x kernels carry none.
    vmlinux=$root/usr/lib/debug/boot/vmlinux-$release
    if [ "$2" = amd64 ]; then
        objcopy -O binary --only-section=.BTF "$vmlinux" "$made/vmlinux.btf"
    else
        pahole -J --btf_encode_detached="$made/vmlinux.btf" "$vmlinux"
    fi
    check_sha256 "$made/vmlinux.btf" "$5"
    compress "$made/vmlinux.btf"

    # Without a base (no --btf_base) pahole makes a module's BTF standalone. pahole does not
    # shorten a file that exists, therefore every file is new.
    mkdir "$made/modules"
    tail -n +2 "$golden" | while IFS='	' read -r module _ sha256 _; do
        object=$(find "$root" -name "$module.ko")
        [ -n "$object" ] || fail "$module.ko is not in the package"
        pahole -J --btf_encode_detached="$made/modules/$module.btf" "$object"
        check_sha256 "$made/modules/$module.btf" "$sha256"
        compress "$made/modules/$module.btf"
    done
    publish modules
}

# The BTF that Debian's build put into the image and its modules, in the folders of the package.
make_shipped_set() { # SET ARCHITECTURE RELEASE VERSION SHA256-OF-PACKAGE SHA256-OF-BASE
    begin "$1"
    download "linux-image-$3" "$4" "$2" "$5"
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --wildcards './boot/vmlinuz-*' '*.ko.xz'

    # The kernel is a zstd frame in the image, with something behind it that zstd complains of.
    start=$(LC_ALL=C grep -aobP -m 1 '\x28\xb5\x2f\xfd' "$root/boot/vmlinuz-$3" | head -n 1)
    tail -c "+$((${start%%:*} + 1))" "$root/boot/vmlinuz-$3" |
        zstd -q -d -c >"$root/vmlinux" 2>"$root/complaints" || true
    objcopy -O binary --only-section=.BTF "$root/vmlinux" "$made/vmlinux.btf"
    check_sha256 "$made/vmlinux.btf" "$6"
    compress "$made/vmlinux.btf"

    modules=$root/lib/modules/$3
    tail -n +2 "$golden" | while IFS='	' read -r module _ sha256 _; do
        object=$(cd "$modules" && find kernel -name "$module.ko.xz")
        [ -n "$object" ] || fail "$module.ko.xz is not in the package"
        btf=$made/${object%.ko.xz}.btf
        mkdir -p "$(dirname "$btf")"
        xz -d -c "$modules/$object" >"$root/module.ko"
        objcopy --dump-section ".BTF=$btf" "$root/module.ko" "$root/rest.ko"
        check_sha256 "$btf" "$sha256"
        compress "$btf"
    done
    publish kernel
}

compress() { # FILE, becomes FILE.zst
    zstd -q --ultra -22 --rm "$1"
    chmod 644 "$1.zst"
}

for name in $sets; do
    case $name in
    demo) make_standalone_set demo amd64 cloud-amd64 \
        4657321b206b13f95d21d23c4644636f14b2acfaeed9375a4b5e200fe1a9c0d9 \
        74f530e5ff2ba7e0bd078e5cf9d253742c0c091f11ab445947be60365e311550 ;;
    demo-6.12) make_shipped_set demo-6.12 amd64 6.12.117+deb12-cloud-amd64 '6.12.117-1~deb12u1' \
        5195b288dec79e2981d6b84457f38b7ce7310a2d702930ec7d07209c7f78ce37 \
        05880fecfdddc2dad3e07155e96d3e6a440e7bd58e5514c7d4f8b8e08cc16a0c ;;
    demo-s390x) make_standalone_set demo-s390x s390x s390x \
        2f695922ae28f047b5ae54906bd6fc9d7582eea76395c337e69c32e93d8dc156 \
        ff50d86bc109c2b95e618b6b4cc82330f6a92b9bbe9e1dce7ec76c0e85c6f27c ;;
    esac
done
