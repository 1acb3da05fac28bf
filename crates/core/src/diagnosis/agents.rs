//! What agents of which version cannot do.

use super::readings::is_older;

/// Abilities and the first version that has them. Source: the release notes of the public
/// amazon-ssm-agent, under these versions. For many connections the official client, and `forward`
/// with it, asks for more than 3.0.196.0 (`TCPMultiplexingSupportedAfterThisAgentVersion` of
/// session-manager-plugin), the release before.
pub const ABILITIES: [(&str, &str); 4] = [
    (
        "3.0.222.0",
        "many connections over one session (ops forward)",
    ),
    (
        "3.0.1124.0",
        "commands without a terminal (ops exec, ops cp)",
    ),
    ("3.1.1188.0", "ports of remote hosts (ops forward)"),
    (
        "3.1.1511.0",
        "output apart from errors, as it comes (ops exec)",
    ),
];
/// From here on what sessions print is not kept on the server's disk unless the account logs it.
const KEEPS_NO_OUTPUT_SINCE: &str = "3.3.987.0";

/// What an agent of `version` cannot do.
pub fn too_old_for(version: &str) -> Vec<&'static str> {
    ABILITIES
        .iter()
        .filter(|(since, _)| is_older(version, since))
        .map(|(_, ability)| *ability)
        .collect()
}

/// Whether an agent of `version` keeps what sessions print on its disk whatever the account says.
pub fn keeps_output(version: &str) -> bool {
    is_older(version, KEEPS_NO_OUTPUT_SINCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_too_old_for_what_came_after_it() {
        assert_eq!(too_old_for("3.0.196.0").len(), 4);
        assert_eq!(too_old_for("3.1.1188.0").len(), 1);
        assert!(too_old_for("3.3.3572.0").is_empty());
        assert!(keeps_output("3.2.2303.0") && !keeps_output("3.3.987.0"));
    }

    #[test]
    fn the_page_has_the_table() {
        let page = include_str!("../../../../docs/doctor.md");
        for (since, ability) in ABILITIES {
            let row = format!("| {since} | {ability} |");
            assert!(page.contains(&row), "{row}");
        }
    }
}
