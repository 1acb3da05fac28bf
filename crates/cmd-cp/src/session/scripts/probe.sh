# shellcheck shell=sh
#
# What a server has: sets home, mask, tools and free_kib, which tell_tools prints.
#
# A tool counts that does what the other scripts ask of it, whatever its version says. No single
# quote may stand here: one pair of them holds it all.

# Of a user whom a service has started HOME may be unset.
[ -n "$HOME" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
# Without a slash at the end, but for the root.
home=${HOME%/}
home=${home:-/}
mask=$(umask)

# moves_position FILE: whether dd moves the position of its output without touching what is there:
# three bytes are in the file then. A function, since bash 5.2 loses the 1 of 1<> in a substitution.
moves_position() {
    {
        dd bs=2 seek=1 count=0 conv=notrunc </dev/null
        # A program and no builtin, as with a frame.
        echo | cat
    } 1<>"$1"
    [ "$(wc -c <"$1")" -eq 3 ]
}

# The redirections stand behind the braces: exec with them in a substitution hangs in ksh93.
tools=$({
    found() { echo "$1" >&4; }

    # OpenSSL takes longer to start than all the rest, which goes on beside it.
    { : | openssl dgst -sha256 -r && found openssl; } &
    # Perl's shasum takes longer still: it is tried only where it is needed.
    if : | sha256sum; then
        found sha256sum
        # busybox hashes, and knows no -z.
        sha256sum -z /dev/null && found sums
    elif : | shasum -a 256; then
        found shasum
    fi
    for tool in tar gzip zstd mktemp mkfifo head dd curl wget; do
        command -v "$tool" && found "$tool"
    done

    # A head that reads no further than it is told, so that a second frame may follow at once.
    [ "$(printf abcd | {
        head -c 2 >/dev/null
        cat
    })" = cd ] && found exact
    # A window that costs the reader little memory; old versions of zstd have no such option.
    : | zstd -1 -c --zstd=wlog=17 && found window

    file=$(mktemp) && {
        moves_position "$file" && found blocks
        rm -f "$file"
    }
    # An mv that replaces a link to a folder; busybox knows -T and refuses.
    file=$(mktemp) && ln -s / "$file.link" && {
        mv -f -T "$file" "$file.link" && [ ! -h "$file.link" ] && found exact-move
        rm -f "$file" "$file.link"
    }
    # Folders and files that are held open can be named: not on macOS, nor where /proc is hidden.
    ls -d /proc/self/fd/5/. 5</ && found handles

    # GNU alone.
    find / -prune -printf "" && found printf
    # GNU and BSD; busybox reads names up to a line feed.
    tar --null -T /dev/null -cf /dev/null && found null
    : | xargs -0 true && found xargs
    wait
} 4>&1 >/dev/null 2>&1)
# Words with one blank between them.
# shellcheck disable=SC2086,SC2116
tools=$(echo $tools)

# Room where old agents keep the output of sessions, in KiB: in -P, the number before a percentage.
free_kib=
for folder in /var/lib/amazon/ssm /var/lib /; do
    [ -d "$folder" ] || continue
    free_kib=$(df -Pk "$folder" 2>/dev/null | sed -n "s/^.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p")
    break
done

# tell_tools: texts, each ended by a NUL.
tell_tools() { printf "%s\000" "$home" "$mask" "$tools" "$free_kib"; }
