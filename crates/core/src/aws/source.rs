//! Where credentials come from, in words.

use aws_credential_types::{Credentials, credential_feature::AwsCredentialFeature};
use ops_profile::aws_files::AwsFiles;
use serde::Serialize;

use super::{Aws, options::AwsOptions, provider};

/// What gives the credentials: the last step, where a role is assumed with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// `AWS_ACCESS_KEY_ID` and its like.
    Environment,
    /// A login at IAM Identity Center.
    Sso,
    /// A role that is assumed with other credentials.
    Role,
    /// Access keys of an AWS profile.
    Keys,
    /// `credential_process`.
    Process,
    /// `login_session`: a login with the credentials of the console, by `aws login`.
    ConsoleLogin,
    /// A role that is assumed with a token of another identity provider.
    WebIdentity,
    /// The credentials of a container, or of an HTTP endpoint.
    Container,
    /// The role of the EC2 instance that this is.
    InstanceMetadata,
    /// The stand-in for AWS.
    Sandbox,
    /// Nothing tells.
    Unknown,
}

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialsSource {
    /// What gives them.
    pub kind: SourceKind,
    /// In words, with everything that stands behind it.
    pub words: String,
}

impl CredentialsSource {
    fn new(kind: SourceKind, words: impl Into<String>) -> Self {
        Self {
            kind,
            words: words.into(),
        }
    }
}

impl Aws {
    /// Where the credentials of this invocation come from by its configuration; `credentials` are
    /// what was found, where something was.
    pub(crate) fn source(&self, credentials: Option<&Credentials>) -> CredentialsSource {
        let base = self.source_of_base(credentials);
        match &self.options.role {
            Some(role) => CredentialsSource::new(
                SourceKind::Role,
                format!(
                    "role {} of the team profile, assumed with: {}",
                    role.arn, base.words
                ),
            ),
            None => base,
        }
    }

    fn source_of_base(&self, credentials: Option<&Credentials>) -> CredentialsSource {
        if self.options.sandbox {
            return CredentialsSource::new(SourceKind::Sandbox, "the sandbox");
        }
        if provider::environment_credentials(&self.env).is_some()
            && !self.options.profile_is_explicit
        {
            return CredentialsSource::new(
                SourceKind::Environment,
                "the environment (AWS_ACCESS_KEY_ID)",
            );
        }
        let files = self.provider.files();
        of_profile(files, self.options.profile_name())
            .or_else(|| credentials.and_then(of_features))
            .unwrap_or_else(|| CredentialsSource::new(SourceKind::Unknown, "unknown"))
    }

    /// The AWS profile that the credentials are of; `None` where they are none of a profile's.
    pub(crate) fn profile_in_use<'a>(options: &'a AwsOptions, kind: SourceKind) -> Option<&'a str> {
        let is_of_profile = matches!(
            kind,
            SourceKind::Sso
                | SourceKind::Role
                | SourceKind::Keys
                | SourceKind::Process
                | SourceKind::ConsoleLogin
                | SourceKind::WebIdentity
        );
        is_of_profile.then(|| options.profile_name())
    }
}

/// What the AWS configuration says of the profile `name`; `None` where it names no source.
fn of_profile(files: &AwsFiles, name: &str) -> Option<CredentialsSource> {
    let get = |key| files.get(name, key);
    let named = |kind, words: String| Some(CredentialsSource::new(kind, words));
    if let Some(role) = get("role_arn") {
        if let Some(file) = get("web_identity_token_file") {
            return named(
                SourceKind::WebIdentity,
                format!("role {role}, assumed with the token of {file}"),
            );
        }
        let mfa = get("mfa_serial").map_or("", |_| " and an MFA code");
        let source = match (get("source_profile"), get("credential_source")) {
            // A profile that is its own source has the keys beside the role.
            (Some(source), _) if source == name => format!("access keys of AWS profile `{name}`"),
            (Some(source), _) => of_profile(files, source)
                .map_or_else(|| format!("AWS profile `{source}`"), |source| source.words),
            (None, Some(source)) => source.to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        return named(
            SourceKind::Role,
            format!("role {role}, assumed with: {source}{mfa}"),
        );
    }
    if let Some(session) = get("sso_session").or_else(|| get("sso_start_url")) {
        let role = get("sso_role_name").unwrap_or("?");
        return named(
            SourceKind::Sso,
            format!("SSO login `{session}`, role {role}"),
        );
    }
    if get("login_session").is_some() {
        return named(
            SourceKind::ConsoleLogin,
            format!("console login of AWS profile `{name}` (aws login)"),
        );
    }
    if get("credential_process").is_some() {
        return named(
            SourceKind::Process,
            format!("credential_process of AWS profile `{name}`"),
        );
    }
    if get("aws_access_key_id").is_some() {
        return named(
            SourceKind::Keys,
            format!("access keys of AWS profile `{name}`"),
        );
    }
    None
}

/// What the SDK notes of where it found them. Without a word in the configuration, its default
/// chain asks the machine.
fn of_features(credentials: &Credentials) -> Option<CredentialsSource> {
    let features: &Vec<AwsCredentialFeature> = credentials.get_property()?;
    let has = |feature| features.contains(&feature);
    Some(if has(AwsCredentialFeature::CredentialsImds) {
        CredentialsSource::new(
            SourceKind::InstanceMetadata,
            "the role of this EC2 instance",
        )
    } else if has(AwsCredentialFeature::CredentialsHttp) {
        CredentialsSource::new(SourceKind::Container, "the credentials of this container")
    } else if has(AwsCredentialFeature::CredentialsEnvVarsStsWebIdToken)
        || has(AwsCredentialFeature::CredentialsStsAssumeRoleWebId)
    {
        CredentialsSource::new(
            SourceKind::WebIdentity,
            "a role assumed with the token of AWS_WEB_IDENTITY_TOKEN_FILE",
        )
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_with_everything_behind_it() {
        let files = AwsFiles::of_config(
            "\
[profile sso]
sso_session = corp
sso_role_name = Operator
[profile role]
role_arn = arn:aws:iam::111122223333:role/x
source_profile = sso
mfa_serial = arn:aws:iam::111122223333:mfa/alice
[profile keys]
aws_access_key_id = AKIDEXAMPLE
[profile process]
credential_process = vault
[profile console]
login_session = arn:aws:iam::111122223333:user/alice
[profile nothing]
region = eu-west-1
",
        );
        let words = |name| of_profile(&files, name).map(|source| (source.kind, source.words));
        assert_eq!(
            words("role"),
            Some((
                SourceKind::Role,
                "role arn:aws:iam::111122223333:role/x, assumed with: SSO login `corp`, role Operator and an MFA code".to_owned()
            ))
        );
        for (name, kind) in [
            ("sso", SourceKind::Sso),
            ("keys", SourceKind::Keys),
            ("process", SourceKind::Process),
            ("console", SourceKind::ConsoleLogin),
        ] {
            assert_eq!(words(name).map(|(kind, _)| kind), Some(kind), "{name}");
        }
        assert_eq!(words("nothing"), None);
        assert_eq!(words("missing"), None);
    }
}
