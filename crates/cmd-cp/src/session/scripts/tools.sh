# shellcheck shell=sh
#
# The tools of a server, for the scripts that follow. Set before, by probe.sh or from what an
# earlier probe has told: tools, home.
#
# No single quote may stand here: some of the scripts travel inside of a pair of them.
#
# shellcheck disable=SC2154 # tools is set before.
# shellcheck disable=SC2034 # hash_files is for the scripts that follow.

# has NAME: whether the probe has found a tool, or a habit of one, under that name.
has() {
    case " $tools " in
    *" $1 "*) ;;
    *) return 1 ;;
    esac
}

# The command that prints the SHA-256 of files first in a line; empty where there is none.
hash_files=
if has sha256sum; then
    hash_files=sha256sum
elif has shasum; then
    hash_files="shasum -a 256"
elif has openssl; then
    hash_files="openssl dgst -sha256 -r"
fi
# OpenSSL hashes one long stream faster; of many small files the program that starts faster wins.
hash_stream=$hash_files
! has openssl || hash_stream="openssl dgst -sha256 -r"

# hash_input: the SHA-256 of standard input in hexadecimal digits, or - where nothing hashes.
hash_input() {
    if [ -n "$hash_stream" ]; then
        # Its words are a command and options.
        # shellcheck disable=SC2086
        $hash_stream | cut -c1-64
    else
        echo -
    fi
}
