#!/bin/sh
# Makes the manifests of Debian kernels that `splitbtf fetch` downloads, from apt's own metadata.
#
#   datasets/make-manifests.sh [RELEASE...]
#
# A RELEASE is what `uname -r` says on that kernel, such as 6.1.0-50-cloud-amd64; without any, those
# that are listed below. Writes debian-RELEASE.toml beside this script. The hashes are those of the
# signed package lists of the archive; nothing is downloaded but the lists.
#
# Needs: apt-get with Debian bookworm and its security updates among its sources. No root: lists go to
# a folder of the script's own. Kernels from 7.0 on are looked for in sid, of the same archive.
set -eu

releases="
6.1.0-47-amd64 6.1.0-47-cloud-amd64 6.1.0-47-rt-amd64
6.1.0-50-amd64 6.1.0-50-cloud-amd64 6.1.0-50-rt-amd64
6.1.0-56-amd64 6.1.0-56-cloud-amd64 6.1.0-56-rt-amd64
6.12.100+deb12-amd64 6.12.100+deb12-cloud-amd64 6.12.100+deb12-rt-amd64
6.12.111+deb12-amd64 6.12.111+deb12-cloud-amd64 6.12.111+deb12-rt-amd64
6.12.117+deb12-amd64 6.12.117+deb12-cloud-amd64 6.12.117+deb12-rt-amd64
6.1.0-50-arm64 6.1.0-50-cloud-arm64 6.12.117+deb12-cloud-arm64
6.1.0-50-s390x
7.2.13+deb14-amd64 7.2.13+deb14-cloud-amd64 7.2.13+deb14-rt-amd64
"
[ $# -eq 0 ] || releases="$*"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/make-manifests.XXXXXX")
trap 'rm -rf "$work"' EXIT

private_apt() { # SUITE ARCHITECTURE COMMAND ARGUMENT...; SUITE: - for those that apt knows
    suite=$1
    architecture=$2
    state=$work/$architecture-$suite
    command=$3
    shift 3
    [ "$suite" = - ] || set -- -o "Dir::Etc::SourceList=$state/sources.list" \
        -o "Dir::Etc::SourceParts=/dev/null" "$@"
    "$command" -q -o "APT::Architecture=$architecture" \
        -o "APT::Architectures=$architecture" -o "APT::Sandbox::User=$(id -un)" \
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" "$@"
}

lists_of() { # SUITE ARCHITECTURE
    lists=$work/$2-$1
    [ ! -e "$lists" ] || return 0
    mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
    if [ "$1" != - ]; then
        archive=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' \
            'Created-By: Packages' | sed -n 's/^Debian main //p' | head -n 1)
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $1 main" \
            >"$lists/sources.list"
    fi
    private_apt "$1" "$2" apt-get update >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

package() { # SUITE ARCHITECTURE PACKAGE WHEN; nothing if the archive has no such package
    private_apt "$1" "$2" apt-cache show --no-all-versions "$3" 2>/dev/null | awk -v when="$4" '
        /^Package: / { name = $2 }
        /^Version: / { version = $2 }
        /^Size: / { size = $2 }
        /^SHA256: / { sha256 = $2 }
        END {
            if (!name) exit
            printf "\n[[package]]\nname = \"%s\"\nversion = \"%s\"\n", name, version
            printf "bytes = %s\nsha256 = \"%s\"\n", size, sha256
            if (when) printf "when = \"%s\"\n", when
        }'
}

for release in $releases; do
    architecture=${release##*-}
    case $release in
        [1-6].*) suite=- ;;
        *) suite=sid ;;
    esac
    lists_of "$suite" "$architecture"
    target=$here/debian-$release.toml
    {
        echo "# Debian's kernel $release. Made by make-manifests.sh of the archive's package lists."
        echo "format = 1"
        echo "name = \"debian-$release\""
        echo "release = \"$release\""
        echo "architecture = \"$architecture\""
        [ "$suite" = - ] || echo "suite = \"$suite\""
        echo 'licence = "GPL-2.0-only"'
        # Debian's s390x kernels carry no BTF: all of it is made of the -dbg package's DWARF.
        if [ "$architecture" = s390x ]; then
            package "$suite" "$architecture" "linux-image-$release-dbg" ""
        else
            if [ "$suite" = sid ]; then # there linux-image depends on these two, and is empty
                package "$suite" "$architecture" "linux-binary-$release" ""
                package "$suite" "$architecture" "linux-modules-$release" ""
            else
                package "$suite" "$architecture" "linux-image-$release" ""
            fi
            package "$suite" "$architecture" "linux-image-$release-dbg" debug
        fi
    } >"$work/manifest"
    if ! grep -q '^sha256' "$work/manifest"; then
        echo "make-manifests.sh: apt does not offer the kernel $release" >&2
        exit 1
    fi
    cp "$work/manifest" "$target"
    echo "$target"
done
