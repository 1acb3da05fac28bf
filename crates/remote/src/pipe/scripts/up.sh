# shellcheck shell=sh
# shellcheck disable=SC2154 # The folder $private of a keeper is named in front.
#
# Feeds the input of a pipe's process from a terminal in raw mode, which bytes come through as they
# are.
#
# Lines to read: LENGTH, and so many bytes behind it; 0 when all is there.
# Messages:      ready          the process is there, and the terminal in raw mode
#                credit LENGTH  a frame was handed on: the next may come
#                status N       of the cat that hands on: 0 when all has arrived
#
# No single quote may stand here: the text travels between a pair of them.

feed() {
    # Held by the cat, and by the outer shell until that one has ended. The line to "eof" lets go of
    # whoever else holds the FIFO, and on a busy server it can come before there is a cat.
    exec 7>&-
    while IFS= read -r length; do
        case "$length" in
        0)
            echo >"$private/eof"
            exit 0
            ;;
        [1-9]*) ;;
        # Nobody knows any more what is a length and what belongs to a frame.
        *) exit 1 ;;
        esac
        # Nothing follows a frame before its credit, so that a head that reads ahead does no harm.
        head -c "$length" || exit 1
        printf "!credit %s\n" "$length" >&6
    done
}

cd "$HOME" 2>/dev/null || cd /
exec 6>&1
stty raw -echo || exit 1
# Waits until the process has opened its input.
exec 7>"$private/in" || exit 1
printf "!ready\n"
feed | cat >&7
status=$?
exec 7>&-
printf "!status %s\n" "$status"
exit "$status"
