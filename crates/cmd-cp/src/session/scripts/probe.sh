# shellcheck shell=sh
#
# What a server has: the home of the user, the umask and the names of tools, each ended by a NUL.
#
# A tool counts that does what the other scripts ask of it, whatever its version says. No single quote
# may stand here: one pair of them holds it all.

# Of a user whom a service has started it may be unset.
[ -n "$HOME" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)

# Whether dd moves the position of its output without touching what is there: three bytes are in the
# file then. A function, since bash 5.2 loses the 1 of 1<> inside of a substitution.
moves_position() {
    {
        dd bs=2 seek=1 count=0 conv=notrunc </dev/null
        # A program, as with a frame.
        echo | cat
    } 1<>"$1"
    [ "$(wc -c <"$1")" -eq 3 ]
}

# The redirections stand behind the braces: exec with them in a substitution hangs in ksh93.
tools=$({
    has() { echo "$1" >&4; }

    # Takes longer to start than all the rest, which goes on beside it.
    { : | openssl dgst -sha256 -r && has openssl; } &
    # Perl's shasum takes longer still: it is tried only where it is needed.
    if : | sha256sum; then
        has sha256sum
        sha256sum -z /dev/null && has sums
    elif : | shasum -a 256; then
        has shasum
    fi
    for tool in tar gzip zstd mktemp mkfifo head dd; do
        command -v "$tool" && has "$tool"
    done

    # head that reads no further than it is told, so that a second frame may follow the first at once.
    [ "$(printf abcd | {
        head -c 2 >/dev/null
        cat
    })" = cd ] && has exact
    # A window that costs the reader little memory.
    : | zstd -1 -c --zstd=wlog=17 && has window

    file=$(mktemp) && {
        moves_position "$file" && has blocks
        rm -f "$file"
    }
    # mv that replaces a link to a folder; busybox knows -T and refuses.
    file=$(mktemp) && ln -s / "$file.link" && {
        mv -f -T "$file" "$file.link" && [ ! -h "$file.link" ] && has exact-move
        rm -f "$file" "$file.link"
    }
    # Folders and files that are held open can be named.
    ls -d /proc/self/fd/5/. 5</ && has handles

    find / -prune -printf "" && has printf
    tar --null -T /dev/null -cf /dev/null && has null
    : | xargs -0 true && has xargs
    wait
} 4>&1 >/dev/null 2>&1)
printf "%s\000" "${HOME:-/}" "$(umask)" "$tools"
