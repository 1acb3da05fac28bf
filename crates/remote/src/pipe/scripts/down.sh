# shellcheck shell=sh
#
# Runs a script as a command without a terminal. What the script writes arrives as text, a stream
# of runs of base64 with messages between them; its messages, complaints and status arrive on error
# output. A message is a line that begins with "!", which base64 has not.
#
# Messages on output:        hex          hexadecimal digits in place of base64
#                            beat         a sign of life
#                            end          all output is there
# Messages on error output:  e COMPLAINT  a line of the script's error output
#                            status N     the status of the script
#                            over         all complaints are there
#                            …            what the script writes to descriptor 6
#
# Descriptors: 3 is the real output, 6 the real error output, 5 leads to the sed that marks
# complaints. 9 is the keeper's, and nothing that is forked here keeps it.
#
# In front stands linger=1 where the agent cuts the end of the output off once its command has
# ended. The line ENCODE becomes the text of a file that defines encode, the line PROCESSES becomes
# the text of processes.sh, the line KEEPER that of keeper.sh or nothing, the line WATCHED that of
# watched.sh, the line SCRIPT the script.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2154 # linger stands in front.
# shellcheck disable=SC2034 # The text in the place of ENCODE uses $encoder.

exec 3>&1 6>&2
# GNU and busybox wrap lines but with -w0, macOS wraps none and knows no -w0. A run may have line
# feeds in it; without them it is shorter.
if base64 -w0 </dev/null >/dev/null 2>&1; then
    encoder="base64 -w0"
elif command -v base64 >/dev/null 2>&1; then
    encoder=base64
elif command -v openssl >/dev/null 2>&1; then
    encoder="openssl base64"
else
    encoder="od -An -v -tx1"
    printf "!hex\n" >&3
fi

PROCESSES
KEEPER
WATCHED

ENCODE

# Tells the client that the agent still listens, and finds out when nobody does any more: then the
# agent has let go.
beat() {
    # Not behind the call: a shell keeps what a function's redirections replace, and the real output
    # would stay open here.
    exec </dev/null >/dev/null 2>&1 6>&-
    # Without this the failing printf would end this shell before it could end the other one.
    trap "" PIPE
    while sleep 3 3>&-; do
        printf "!beat\n" >&3 || {
            kill "$$"
            exit 0
        }
    done
}

run_script() {
    (
        cd "$HOME" 2>/dev/null || cd /
SCRIPT
    ) 2>&5
    printf "!status %s\n" "$?" >&6
}

# All that there is to end, in a process of its own.
run_all() {
    beat &
    beating=$!
    # ksh runs the last part of a pipeline itself.
    { run_script | encode >&3; } 5>&1 | sed "s/^/!e /" >&6
    kill "$beating" 2>/dev/null
}

run_watched
printf "!over\n" >&6
printf "\n!end\n" >&3
# Of a command that has ended the agent repairs for two seconds only what was lost on the way: the
# client ends the session. In this process, so that it goes with the session; it ends by itself
# where nobody ends it. Not where the agent collects the output in a file, as those before
# 3.1.1511.0 do whatever they are asked for: there nothing is sent before this process has ended.
if [ -n "$linger" ] && ! [ -f /dev/fd/1 ]; then
    exec 9>&-
    exec sleep 30
fi
