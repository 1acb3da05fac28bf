//! Lists and archives without an end.

use super::*;

/// A sandbox whose `find` prints `lines`, a piece of shell, for whatever is listed below `evil`.
fn with_find(lines: &str) -> Lab {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    let find = bin.join("find");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in */evil*printf*) ;; *) exec /usr/bin/find \"$@\";; esac\n{lines}\n"
    );
    fs::write(&find, text).unwrap();
    fs::set_permissions(&find, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    lab.env("PATH", path).serve([])
}

#[test]
fn a_list_without_an_end_is_refused() {
    let lab = with_find(
        "printf 'd 0 755 1 %s\\0\\0' \"$2\"\n\
         exec awk -v root=\"$2\" 'BEGIN { for (;;) printf \"f 4 644 1 %s/%d%c%c\", root, n++, 0, 0 }'",
    );
    let (far, to) = (lab.folder("far").join("evil"), lab.folder("to"));
    put(&far, b"f", b"f", 0o644);
    let done = cp(&lab, [os("-r"), remote(&far), to.clone().into()]).exits(1);
    assert!(
        done.stderr.contains("the list of `web-1` is too long"),
        "{done}"
    );
    assert!(
        done.stderr.contains("hint: copy a part at a time"),
        "{done}"
    );
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn an_archive_whose_name_is_gigabytes_long_costs_no_memory() {
    let lab = Lab::new();
    let bin = lab.folder("bin");
    let tar = bin.join("tar");
    // A header of a record `L` of 6 GB, then zeros; the probe asks tar for other things.
    let mut header = vec![0_u8; 512];
    header[..13].copy_from_slice(b"././@LongLink");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"60000000000");
    header[156] = b'L';
    header[257..265].copy_from_slice(b"ustar  \0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let record = lab.folder("record").join("header");
    fs::write(&record, header).unwrap();
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'-T -'*) cat >/dev/null; cat {}; exec head -c 6000000000 /dev/zero;; esac\n\
         exec /usr/bin/tar \"$@\"\n",
        record.display()
    );
    fs::write(&tar, text).unwrap();
    fs::set_permissions(&tar, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let lab = lab.env("PATH", path).serve([]);
    let (far, to) = (lab.folder("far"), lab.folder("to").join("got"));
    for n in 0..6 {
        put(&far, format!("f{n}").as_bytes(), b"content", 0o644);
    }
    let done = cp(&lab, [os("-rv"), remote(&far), to.clone().into()]).success();
    // Whichever bound is met first: that of a name, or that of the archive.
    let bounds = [
        "longer than any name",
        "a larger archive than its files can make",
    ];
    assert!(
        bounds.iter().any(|words| done.stderr.contains(words)),
        "{done}"
    );
    same(&far, &to);
}
