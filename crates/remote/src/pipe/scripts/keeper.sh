# shellcheck shell=sh
#
# Behind processes.sh. Makes the private folder $private of a pipe and starts its keeper: a process
# that outlives the session, whatever ends it, and puts in order what is left then.
#
# Files of the folder:
#   life       FIFO: the pipe lives for as long as somebody holds its writing end
#   in         FIFO: what the process reads
#   out        FIFO: what the script of a dialogue has to say
#   eof        FIFO: a line in it says that the input has come to its end
#   process    the number of the process that is ended with the pipe; empty for none
#   remove     a path and a line feed: what is removed with the folder
#
# No single quote may stand here: the text travels between a pair of them.

private=$(mktemp -d "${TMPDIR:-/tmp}/ops-pipe.XXXXXX") || exit 1
mkfifo "$private/life" "$private/in" "$private/out" "$private/eof" || {
    rm -rf "$private"
    exit 1
}

keep() {
    # The end of a session is a hang-up, and an agent kills by group: now the keeper is needed.
    trap "" HUP INT QUIT TERM
    # Whoever holds the session's output open keeps the session from ending. To open a FIFO waits
    # for its other side, which is there: this process has it too, until the next word.
    exec 3>&- 5>&- 6>&- 7>&- <"$private/life" >/dev/null 2>&1 9>&-
    # Ends when the last writer is gone. Only the shell that the agent started is one, and that
    # shell dies with its session, whatever else hangs.
    cat
    # First: what the session has left still begins things, and would write into the folder while it
    # is removed, so that it stayed, or begin a process that nobody here knows of.
    mv "$private" "$private.gone" && private=$private.gone
    [ ! -s "$private/process" ] || end_tree "$(cat "$private/process")"
    # Opening a FIFO waits for its other side, and somebody may still wait so. Opened both ways a
    # FIFO waits for nobody, and lets them go on. This comes after the end of the process, which
    # must not take it for the end of its input.
    : 1<>"$private/in" 2<>"$private/out"
    : 1<>"$private/eof"
    if [ -s "$private/remove" ]; then
        # "$(…)" cuts off line feeds at the end, of which a name may have some of its own: the full
        # stop keeps them, and is cut off with the one line feed that the file has.
        path=$(
            cat "$private/remove"
            echo .
        )
        rm -rf "${path%??}"
    fi
    rm -rf "$private"
}

# Opened both ways, which waits for nobody, and before there is a keeper: one that began alone would
# wait for ever for a writer that was killed before it came.
exec 9<>"$private/life"
# No parentheses: mksh would start two processes.
keep &
