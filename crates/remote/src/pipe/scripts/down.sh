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
# In front stand: encode=…, the name of a function, and linger=1 where the agent cuts the end of
# the output off once its command has ended. The line KEEPER becomes the text of keeper.sh or
# nothing, the line SCRIPT the script.
#
# No single quote may stand here: the text travels between a pair of them.
#
# shellcheck disable=SC2154 # encode and linger stand in front.
# shellcheck disable=SC2329 # The functions that encode are called by name.

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

KEEPER

# A whole buffer at a time: nothing is faster, and what fills no buffer waits until the script ends.
encode_in_bulk() {
    # Split into words on purpose.
    $encoder
}

# As it comes: what one read of the pipe gives is a run of its own. That is two processes for each,
# which costs when much comes.
encode_live() {
    while
        run=$(dd bs=65536 count=1 2>/dev/null | $encoder)
        [ -n "$run" ]
    do
        printf "%s\n" "$run" || exit 1
    done
}

# Tells the client that the agent still listens, and finds out first when nobody does any more: then
# the agent has let go, and where sudo stands in between its kill has not come here.
beat() {
    # Not behind the call: a shell keeps what a function's redirections replace, and the real output
    # would stay open here.
    exec </dev/null >/dev/null 2>&1 6>&- 9>&-
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

# No parentheses: mksh would start two processes, and $! would name the one that only waits.
beat &
beating=$!
# ksh runs the last part of a pipeline itself: an exec there would close the descriptor for good.
{
    exec 9>&-
    run_script | "$encode" >&3
} 5>&1 | sed "s/^/!e /" >&6 9>&-
kill "$beating" 2>/dev/null
printf "!over\n" >&6
printf "\n!end\n" >&3
# Of a command that has ended the agent repairs for two seconds only what was lost on the way: the
# client ends the session. In this process, so that it goes with the session; it ends by itself
# where nobody ends it.
if [ -n "$linger" ]; then
    exec 9>&-
    exec sleep 30
fi
