//! Which C library a binary was linked with, and from which version on that library has what the
//! binary asks for.

use std::{fs::File, path::Path};

use object::{Endianness, ReadCache, ReadRef, elf::FileHeader64, read::elf::FileHeader as _};
use serde::Serialize;

/// The C library of a binary.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkedLibc {
    /// `glibc`, `musl`, or `system` on systems that have only their own.
    name: &'static str,
    /// Whether the library is inside the binary, which then needs none of the machine.
    is_static: bool,
    /// The oldest glibc with which the binary starts, such as `2.34`; none for other libraries.
    needs: Option<String>,
}

impl LinkedLibc {
    /// The library of this program, which `program` is the file of.
    ///
    /// A file that cannot be read (removed since the start, say) leaves `needs` empty.
    pub(crate) fn of(program: Option<&Path>) -> Self {
        let name = if cfg!(target_env = "gnu") {
            "glibc"
        } else if cfg!(target_env = "musl") {
            "musl"
        } else {
            "system"
        };
        Self {
            name,
            is_static: cfg!(target_feature = "crt-static"),
            needs: program.and_then(oldest_glibc),
        }
    }
}

/// The newest of the versions `GLIBC_…` that the ELF file asks for, without that prefix. The
/// dynamic loader refuses to start a program when its glibc lacks one of them, so the newest one
/// decides. None where the file is no 64-bit ELF file, or asks for no versions.
fn oldest_glibc(program: &Path) -> Option<String> {
    let file = ReadCache::new(File::open(program).ok()?);
    let asked = asked_versions(&file).ok()??;
    asked
        .iter()
        .filter_map(|name| name.strip_prefix("GLIBC_"))
        // `GLIBC_PRIVATE` and `GLIBC_ABI_DT_RELR` are names too, and no versions.
        .filter_map(|version| Some((version_numbers(version)?, version)))
        .max()
        .map(|(_, version)| version.to_owned())
}

/// `2.9` comes before `2.34`: versions are compared number by number.
fn version_numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

/// All names in the section `.gnu.version_r`; none where there is no such section, as in a static
/// binary. Source of the layout: "Symbol Versioning" of the Linux Standard Base.
fn asked_versions<'file>(file: impl ReadRef<'file>) -> object::read::Result<Option<Vec<String>>> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, file)?;
    let Some((libraries, names_at)) = sections.gnu_verneed(endian, file)? else {
        return Ok(None);
    };
    let names = sections.strings(endian, file, names_at)?;
    let mut asked = Vec::new();
    for library in libraries {
        let (_, versions) = library?;
        for version in versions {
            let name = version?.name(endian, names)?;
            asked.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(Some(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version_numbers("2.9") < version_numbers("2.34"));
        assert!(version_numbers("2.2.5") < version_numbers("2.3"));
        assert_eq!(version_numbers("PRIVATE"), None);
    }

    #[test]
    fn a_file_that_is_no_program_needs_no_glibc() {
        assert_eq!(oldest_glibc(Path::new("Cargo.toml")), None);
        assert_eq!(oldest_glibc(Path::new("no-such-file")), None);
    }

    /// The referee is readelf of the GNU binutils, which prints the same section.
    #[cfg(target_env = "gnu")]
    #[test]
    fn the_oldest_glibc_is_the_newest_version_that_readelf_shows() {
        ops_test_needs::needs!("readelf");
        let program = std::env::current_exe().expect("the path of this program");
        let output = std::process::Command::new("readelf")
            .args(["--version-info", "--wide"])
            .arg(&program)
            .output()
            .expect("readelf runs");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let newest = shown
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            .filter_map(|word| word.strip_prefix("GLIBC_"))
            .max_by_key(|version| version_numbers(version));
        assert_eq!(oldest_glibc(&program).as_deref(), newest);
    }
}
