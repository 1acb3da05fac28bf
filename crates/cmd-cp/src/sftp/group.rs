//! Which files go together.

use super::{GROUP_BYTES, GROUP_FILES, LARGE_BYTES};

/// What goes together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Group<T> {
    /// By one session, hashed by one command.
    Small(Vec<T>),
    /// Shared out over all sessions.
    Large(T),
    /// In order, by one session.
    Stream(T),
}

/// Puts `files` together, in their order; `size` is `None` for streams.
pub(super) fn grouped<T>(files: Vec<T>, size: impl Fn(&T) -> Option<u64>) -> Vec<Group<T>> {
    let mut groups = Vec::new();
    let (mut some, mut bytes) = (Vec::new(), 0);
    for file in files {
        match size(&file) {
            None => groups.push(Group::Stream(file)),
            Some(size) if size >= LARGE_BYTES => groups.push(Group::Large(file)),
            Some(size) => {
                bytes += size;
                some.push(file);
                if some.len() == GROUP_FILES || bytes >= GROUP_BYTES {
                    groups.push(Group::Small(std::mem::take(&mut some)));
                    bytes = 0;
                }
            }
        }
    }
    if !some.is_empty() {
        groups.push(Group::Small(some));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_go_in_groups_and_the_others_alone() {
        let sizes = [Some(1), None, Some(LARGE_BYTES), Some(0)];
        let groups = grouped(sizes.to_vec(), |size| *size);
        assert_eq!(
            groups,
            [
                Group::Stream(None),
                Group::Large(Some(LARGE_BYTES)),
                Group::Small(vec![Some(1), Some(0)])
            ]
        );
        let many = vec![1_u64; GROUP_FILES + 1];
        assert_eq!(grouped(many, |size| Some(*size)).len(), 2);
        let fat = vec![LARGE_BYTES - 1; 10];
        assert_eq!(grouped(fat, |size| Some(*size)).len(), 2);
    }
}
