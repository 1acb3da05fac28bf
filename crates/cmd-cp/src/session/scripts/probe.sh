# shellcheck shell=sh
#
# What a server has: the home of the user, the umask and the names of tools, each ended by a NUL.
#
# A tool counts that does what the other scripts ask of it, whatever its version says. No single quote
# may stand here: one pair of them holds it all.

# Of a user whom a service has started it may be unset.
[ -n "$HOME" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6)

tools=$(
    exec 4>&1 >/dev/null 2>&1
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

    # dd that moves the position of its output without touching what is there.
    file=$(mktemp) && {
        {
            rm -f "$file"
            dd bs=2 seek=1 count=0 conv=notrunc </dev/null
            echo
            [ "$(wc -c <&3)" -eq 3 ]
        } 1<>"$file" 3<"$file" && has blocks
    }
    # mv that replaces a link to a folder, in place of moving into the folder.
    file=$(mktemp) && mv -f -T "$file" "$file.moved" && {
        rm -f "$file.moved"
        has exact-move
    }
    # Folders and files that are held open can be named.
    ls -d /proc/self/fd/5/. 5</ && has handles

    find / -prune -printf "" && has printf
    tar --null -T /dev/null -cf /dev/null && has null
    : | xargs -0 true && has xargs
    wait
)
printf "%s\000" "${HOME:-/}" "$(umask)" "$tools"
