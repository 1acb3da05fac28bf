# shellcheck shell=sh
# shellcheck disable=SC2086 # Lists of numbers are split into words on purpose.
#
# Ends what a script has started, for keeper.sh and watched.sh.
#
# No single quote may stand here: the text travels between a pair of them, and has to be short.

# stop_tree: stops the processes in $tree and all that they have started, which $tree has then too.
# Who is stopped starts no more: a list that is the same twice is all.
stop_tree() {
    known=
    until [ "$known" = "$tree" ]; do
        known=$tree
        kill -STOP $tree
        child=
        # Numbers, and the words above them. The ps of busybox knows no -A, or nothing of all this,
        # and says so by its status; then there is a /proc.
        for number in $(
            ps -A -o pid,ppid || ps -o pid,ppid ||
                sed -n "s/^\([0-9]*\) .*) . \([0-9]*\) .*/\1 \2/p" /proc/[0-9]*/stat
        ); do
            if [ -z "$child" ]; then
                child=$number
                continue
            fi
            case " $tree " in
            *" $child "*) ;;
            *" $number "*) tree="$tree $child" ;;
            esac
            child=
        done
    done
}

# end_tree PROCESS: ends it and all that it has started; they have a second to put things in order.
end_tree() {
    tree=$1
    # Before the first of them dies: whose parent is gone belongs to process 1.
    stop_tree
    kill $tree
    kill -CONT $tree
    sleep 1
    # Once more, since who puts things in order may start something for that.
    stop_tree
    kill -9 $tree
}
