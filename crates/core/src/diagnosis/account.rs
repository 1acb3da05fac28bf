//! What the account's session preferences mean for a session.

use crate::calls::SessionPreferences;

/// What each of the account's preferences means for whoever opens a session, a line each.
pub fn meanings_of_preferences(preferences: &SessionPreferences) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(key) = &preferences.kms_key {
        lines.push(format!("sessions are encrypted with `{key}`: the caller needs kms:GenerateDataKey and the server's role kms:Decrypt on it"));
    }
    match preferences.run_as.as_deref() {
        None => {}
        Some("") => lines.push("sessions run as the user that the caller's tag SSMSessionRunAs names; without the tag none starts".to_owned()),
        Some(user) => lines.push(format!("sessions run as `{user}`: on a server without that user they end at once")),
    }
    if let Some((bucket, _)) = &preferences.logs.bucket {
        lines.push(format!("what sessions print is logged to the bucket `{bucket}`, and kept on the server's disk meanwhile"));
    }
    if let Some(group) = &preferences.logs.log_group {
        lines.push(format!(
            "what sessions print is logged to the log group `{group}`"
        ));
    }
    if let Some(minutes) = &preferences.idle_minutes {
        lines.push(format!(
            "sessions end after {minutes} minutes without input"
        ));
    }
    if let Some(minutes) = &preferences.most_minutes {
        lines.push(format!(
            "sessions end after {minutes} minutes, whatever runs in them"
        ));
    }
    if preferences.has_shell_profile {
        lines.push("commands of the account run at the begin of each shell".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_preference_that_is_set_has_its_line() {
        let content = r#"{"inputs":{"kmsKeyId":"arn:k","runAsEnabled":true,"runAsDefaultUser":"ops","idleSessionTimeout":"20","maxSessionDuration":60,"s3BucketName":"logs","cloudWatchLogGroupName":"/ssm","shellProfile":{"linux":"cd /"}}}"#;
        let preferences = SessionPreferences::of(content).expect("preferences");
        let lines = meanings_of_preferences(&preferences);
        for said in [
            "`arn:k`",
            "`ops`",
            "`logs`",
            "`/ssm`",
            "20 minutes",
            "60 minutes",
            "begin",
        ] {
            let count = lines.iter().filter(|line| line.contains(said)).count();
            assert_eq!(count, 1, "{said}: {lines:?}");
        }
        assert_eq!(lines.len(), 7);
        assert!(meanings_of_preferences(&SessionPreferences::default()).is_empty());
    }
}
