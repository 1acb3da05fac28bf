# shellcheck shell=sh
#
# Ends what a script has started, for keeper.sh and down.sh.
#
# No single quote may stand here: the text travels between a pair of them, and has to be short.

# tell_tree PROCESS: its number, and those of all that it has started, as $processes has them.
tell_tree() {
    echo "$1"
    echo "$processes" | while read -r child parent; do
        [ "$parent" != "$1" ] || tell_tree "$child"
    done
}

# end_tree PROCESS: ends it and all that it has started; they have a second to put things in order.
end_tree() {
    # The list is made before the first of them dies: whose parent is gone belongs to process 1.
    # The ps of busybox knows no -A and no pid=, and says so by its status; then there is a /proc,
    # and a name with blanks in it gives a line that names no parent. On macOS there is no /proc,
    # and ps knows both.
    processes=$(ps -A -o pid= -o ppid= || cut -d" " -f1,4 /proc/[0-9]*/stat)
    # Numbers, one to a word.
    # shellcheck disable=SC2046
    set -- $(tell_tree "$1")
    kill "$@"
    sleep 1
    kill -9 "$@"
}
