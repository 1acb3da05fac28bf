# shellcheck shell=sh
# shellcheck disable=SC2154,SC2317,SC2329 # run_all is the script's, for which this stands in front.
#
# Behind processes.sh: run_watched does run_all, which a script defines, and ends it with all that
# it has started when the shell that the agent has started is gone. For down.sh, and for direct.sh
# of a command that ends with its session.
#
# No single quote may stand here: the text travels between a pair of them, and has to be short.

# Whether the shell that this text was given to lives, with the parent that it began with. The
# agent kills the process that it started and nothing else: this shell, or the sudo in front of it.
# kill -0 alone does not tell, since an agent may never wait for what it has killed. Where neither
# /proc nor ps tells more, kill -0 has to do. The name that stands in front of the two fields is
# that of a shell, which has no blank.
is_wanted() {
    kill -0 $$ || return
    # Two words on purpose.
    # shellcheck disable=SC2046
    set -- $(cut -d" " -f3,4 /proc/$$/stat || ps -o stat= -o ppid= -p $$)
    [ "${1#Z}${2-$PPID}" = "$1$PPID" ]
}

# watch PROCESS: ends it with all that it has started when nobody wants that any more. A write would
# not do: into a pipe that nobody reads and somebody holds open it waits for ever, and so does a
# process that nobody ends.
watch() {
    exec </dev/null >/dev/null 2>&1 3>&- 6>&-
    while is_wanted; do
        sleep 3
    done
    trap "" HUP INT QUIT TERM
    end_tree "$1"
}

# The watcher knows the number of what it ends only once that has begun. What starts both is not
# the shell that may be killed between the two, but a process of which nobody else knows.
start_watched() {
    exec 9>&-
    run_all &
    running=$!
    watch "$running" &
    wait "$running"
    kill "$!" 2>/dev/null
}

# No parentheses: mksh would start two processes, and $! would name the one that only waits.
run_watched() {
    start_watched &
    wait "$!"
}
