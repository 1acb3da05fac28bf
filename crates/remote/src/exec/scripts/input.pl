# The frames of an input, by one process each way: what enter and feed of input.sh do with a head, a
# cat and an rm for every frame. In place of a mark of input.sh, between double quotes, so that no
# single quote may stand in it. It needs no module: perl-base of a small server has few.

my ($role, $folder, @order) = @ARGV;

# A FIFO that is opened for both ways waits for nobody, and its other end is never closed.
open my $feed, "+<", "$folder/feed" or exit 1;
open my $bell, "+<", "$folder/bell" or exit 1;

# note FILES WORDS, as note of engine.sh: over what is there, as wide as that is.
sub note {
    my ($files, $words) = @_;
    my $line = sprintf "noted=\"%-48s\"\n", $words;
    for my $file (@$files) {
        sysseek $file, 0, 0;
        syswrite($file, $line) or exit 1;
    }
}

# Both files of a note. They are there: sh has written them for the first frame.
sub open_note {
    my ($name) = @_;
    my @files;
    open $files[@files], "+<", $_ or exit 1 for "$folder/$name.copy", "$folder/$name";
    return \@files;
}

# The number that a note says, as recall of engine.sh finds it.
sub recall {
    my ($files) = @_;
    my @lines;
    for (1 .. 10) {
        for my $which (0, 1) {
            sysseek $files->[$which], 0, 0;
            sysread $files->[$which], $lines[$which], 128;
        }
        last if $lines[0] eq $lines[1];
    }
    return $lines[1] =~ /=(\d+) / ? $1 : 0;
}

# A ring that was not heard yet will do: whoever hears it looks at the notes then.
sub ring {
    my ($fifo) = @_;
    my $rung = "";
    vec($rung, fileno $fifo, 1) = 1;
    select($rung, undef, undef, 0) > 0 or syswrite $fifo, "\n";
}

# A line of the terminal, byte by byte: what follows an order that is not for this program is for
# the shell, which reads it from the same terminal.
sub read_line {
    my $line = "";
    while ($line !~ /\n/) {
        # A terminal that was hung up.
        sysread STDIN, $line, 1, length $line or exit 1;
    }
    return $line;
}

# take_frame NUMBER LENGTH MARK: one frame of the terminal, into a file that has not its name before
# it is whole. A file of that name may be there: an enter that was killed has stored the same frame,
# and the command is about to be given it.
sub take_frame {
    my ($number, $left, $mark) = @_;
    open my $file, ">", "$folder/in.new.$$" or exit 1;
    while ($left > 0) {
        my $bytes = "";
        # A terminal gives less than four kilobytes at a time, and each write is a look into the
        # file's map of blocks.
        while ($left > 0 && length $bytes < 65536) {
            my $count = sysread STDIN, $bytes, $left < 65536 ? $left : 65536, length $bytes;
            $count or exit 1;
            $left -= $count;
        }
        syswrite($file, $bytes) == length $bytes or exit 1;
    }
    !$mark || read_line() eq ".\n" or exit 1;
    rename "$folder/in.new.$$", "$folder/in.$number" or exit 1;
}

# What other enters have left when they were killed.
sub remove_parts {
    opendir my $entries, $folder or exit 1;
    unlink "$folder/$_" for grep { /^in\.new\./ } readdir $entries;
}

# Frames of the terminal, the first of which the shell has read about, until a line comes that is
# another order: that is for the shell.
sub take_frames {
    my ($number, $length, $mark) = @_;
    my $stored = open_note("in.stored");
    remove_parts();
    while (1) {
        take_frame($number, $length, $mark);
        note($stored, "stored=$number");
        ring($feed);
        ring($bell);
        $number++;
        my $line = read_line();
        ($length, $mark) = $line =~ /^in (\d+)( marked)?$/;
        if (!$length) {
            print $line;
            return;
        }
    }
}

# The frames that are stored, to the command, until the end of its input.
sub hand_frames {
    my ($number) = @_;
    my $stored = open_note("in.stored");
    my $handed = open_note("in.done");
    $SIG{PIPE} = "IGNORE";
    # Larger than the 64 KiB of a FIFO (F_SETPIPE_SZ): a command that reads much at once gets it.
    fcntl STDOUT, 1031, 1048576 if $^O eq "linux";
    while (1) {
        # Looked at first: the last frame is stored before the end is told.
        my $is_ended = -e "$folder/in.end";
        if (recall($stored) < $number) {
            last if $is_ended;
            sysread $feed, my $rung, 4096;
            next;
        }
        hand_frame($number);
        note($handed, "handed=$number");
        ring($bell);
        unlink "$folder/in.$number";
        $number++;
    }
}

# Nobody reads any more where this fails.
sub hand_frame {
    my ($number) = @_;
    open my $file, "<", "$folder/in.$number" or exit 1;
    while (my $count = sysread $file, my $bytes, 131072) {
        for (my $done = 0; $done < $count;) {
            $done += syswrite(STDOUT, $bytes, $count - $done, $done) || exit 1;
        }
    }
}

$role eq "take" ? take_frames(@order) : hand_frames(@order);
