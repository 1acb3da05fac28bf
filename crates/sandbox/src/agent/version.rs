//! What depends on a version, of the agent or of the client.

use std::cmp::Ordering;

/// Compares dotted versions number by number; parts that are not numbers are compared as text, as
/// the agent does.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let mut left = left.split('.');
    let mut right = right.split('.');
    loop {
        let ordering = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (Some(_), None) => return Ordering::Greater,
            (None, Some(_)) => return Ordering::Less,
            (Some(left), Some(right)) => match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                _ => left.cmp(right),
            },
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// Whether an agent of this version has the multiplexer (strictly greater: the version named has
/// not).
pub(super) fn agent_multiplexes(agent: &str) -> bool {
    compare(agent, "3.0.196.0").is_gt()
}

/// Whether a client of this version is offered the multiplexer.
pub(super) fn client_multiplexes(client: &str) -> bool {
    compare(client, "1.1.70").is_ge()
}

/// Whether the agent's multiplexer sends keep-alives, and ends the session when none come back.
pub(super) fn keeps_alive(agent: &str, client: &str) -> bool {
    compare(agent, "3.1.1511.0").is_le() || compare(client, "1.2.331.0").is_le()
}

/// Whether an agent of this version understands the flag that ends a session.
pub(super) fn understands_terminate(agent: &str) -> bool {
    compare(agent, "2.3.722.0").is_gt()
}

/// Whether an agent of this version has commands without a terminal.
pub(super) fn runs_commands(agent: &str) -> bool {
    compare(agent, "3.0.1124.0").is_ge()
}

/// Whether an agent of this version reads `separateOutputStream`; one that does not sends output
/// and error output as one, when the command has ended.
pub(super) fn separates_output(agent: &str) -> bool {
    compare(agent, "3.1.1511.0").is_ge()
}

/// Whether an agent of this version keeps the output of sessions on its disk, for 14 days, with its
/// default settings.
pub(super) fn keeps_output(agent: &str) -> bool {
    compare(agent, "3.3.987.0").is_lt()
}

/// Whether an agent of this version tells a client of that version to update, for separated output.
pub(super) fn wants_newer_client_for_separate_output(client: &str) -> bool {
    compare(client, "1.2.295").is_le()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_where_the_official_programs_have_them() {
        assert!(!agent_multiplexes("3.0.196.0"));
        assert!(agent_multiplexes("3.0.197.0"));
        assert!(client_multiplexes("1.1.70.0"));
        assert!(!client_multiplexes("1.1.69.0"));
        assert!(keeps_alive("3.1.1511.0", "1.2.764.0"));
        assert!(keeps_alive("3.3.3572.0", "1.2.331.0"));
        assert!(!keeps_alive("3.3.3572.0", "1.2.764.0"));
        assert!(!understands_terminate("2.3.600.0"));
        assert!(!wants_newer_client_for_separate_output("1.2.764.0"));
        assert!(!runs_commands("3.0.1123.0") && runs_commands("3.0.1124.0"));
        assert!(!separates_output("3.1.1510.0") && separates_output("3.1.1511.0"));
        assert!(keeps_output("3.3.986.0") && !keeps_output("3.3.987.0"));
    }

    #[test]
    fn parts_are_numbers_not_text() {
        assert!(compare("3.10.0.0", "3.9.0.0").is_gt());
        assert!(compare("abc", "1.1.70").is_gt());
        assert!(compare("", "1.1.70").is_lt());
    }
}
