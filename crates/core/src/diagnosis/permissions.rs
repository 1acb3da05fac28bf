//! What the caller is allowed, by the policy simulator of IAM.
//!
//! The simulator is a hint and no proof: it knows little of policies of the organisation, and
//! nothing of endpoint policies. Where it may not be asked, what doctor tries tells.

use ops_profile::{Instance, Kind};
use ops_ui::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::{aws::Identity, context::Context, iam, partition::Partition};

/// Tags of an instance that a simulation is told of, as conditions of policies name them.
const TOLD_TAGS: usize = 10;
/// Conditions of policies look at it where the caller may use some documents alone.
const DOCUMENT_CHECK: &str = "ssm:SessionDocumentAccessCheck";
/// What is asked for where an account uses just-in-time node access.
const ACCESS_REQUEST: &str = "ssm:StartAccessRequest";

/// What policies say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some policy allows it.
    Allowed,
    /// None does.
    NotAllowed,
    /// One forbids it, whatever else allows it.
    Forbidden,
}

/// One call on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The IAM action.
    pub action: String,
    /// The ARN, or `*`.
    pub resource: String,
    /// What policies say.
    pub verdict: Verdict,
    /// Whether a shell on the server is out of the question without it.
    pub is_needed: bool,
}

/// What the caller is allowed of all that `ops` calls.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    /// Every call that was simulated, or tried.
    pub all: Vec<Permission>,
    /// Whether the account lets the caller ask for access in place of having it.
    pub is_just_in_time: bool,
    /// Whether a policy demands that the caller may use the document of a session too.
    pub checks_documents: bool,
    /// Calls that are not allowed and that no session needs, each with what needs it.
    pub optional: Vec<(&'static str, &'static str)>,
}

/// Calls that some uses of some verbs make, each on any resource, with what needs them. Those that
/// `doctor` alone makes are told by its checks. The rest of [`iam::POLICY`] is on resources that
/// only the use names: a key, a bucket, a log group.
const OPTIONAL: [(&str, &str); 9] = [
    ("ec2:DescribeRegions", "--all-regions"),
    ("ssm:DescribeSessions", "sessions"),
    ("ssm:SendCommand", "exec --via run-command"),
    ("ssm:ListCommands", "runs, exec --via run-command"),
    ("ssm:ListCommandInvocations", "runs, exec --via run-command"),
    ("ssm:CancelCommand", "runs cancel"),
    (
        "resource-groups:ListGroupResources",
        "exec --resource-group",
    ),
    (
        "ec2-instance-connect:SendSSHPublicKey",
        "--instance-connect",
    ),
    ("iam:ListAccountAliases", "whoami: the account's alias"),
];

/// A decision of the simulator.
pub(super) struct Decision {
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) is_allowed: bool,
    is_explicit: bool,
    missing_context: Vec<String>,
}

impl Permissions {
    /// What is missing.
    pub fn missing(&self) -> impl Iterator<Item = &Permission> {
        self.all
            .iter()
            .filter(|permission| permission.verdict != Verdict::Allowed)
    }

    /// Those calls of `tried` that were denied, each an action and its resource.
    pub fn of_tries(denied: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let all = denied.into_iter().map(|(action, resource)| Permission {
            is_needed: is_needed(action, &resource),
            action: action.to_owned(),
            resource,
            verdict: Verdict::NotAllowed,
        });
        Self {
            all: all.collect(),
            ..Self::default()
        }
    }

    /// One policy that allows what is missing, in `region`; `None` where nothing is.
    pub fn policy_to_add(&self, region: &str) -> Option<Value> {
        let partition = Partition::of(region);
        let mut statements: Vec<Value> = Vec::new();
        let mut starts: Vec<String> = self
            .missing()
            .filter(|permission| permission.action == "ssm:StartSession")
            .map(|permission| permission.resource.clone())
            .collect();
        if !starts.is_empty() {
            starts.extend(self.document_unknown(region));
            statements.push(json!({
                "Sid": "OpenSessions", "Effect": "Allow", "Action": "ssm:StartSession",
                "Resource": starts,
            }));
        }
        for permission in self.missing() {
            let statement = iam::Statement::of(&permission.action)
                .filter(|_| permission.action != "ssm:StartSession")
                .map(|statement| statement.json(partition));
            statements.extend(statement.filter(|new| !statements.contains(new)));
        }
        (!statements.is_empty())
            .then(|| json!({ "Version": "2012-10-17", "Statement": statements }))
    }

    /// The document of shells, where nothing tells whether the caller may use it. A refusal names
    /// one resource of several: with the server alone in the policy, the next try would be refused
    /// for the document.
    fn document_unknown(&self, region: &str) -> Option<String> {
        let is_start = |one: &&Permission| one.action == "ssm:StartSession";
        let mut starts = self.all.iter().filter(is_start);
        if starts.any(|one| one.resource.contains(":document/")) {
            return None;
        }
        // `arn:aws:ec2:REGION:ACCOUNT:instance/ID`.
        let server = self.missing().find(is_start)?;
        let account = server.resource.split(':').nth(4)?;
        let name = "SSM-SessionManagerRunShell";
        Some(iam::document_arn(region, account, name))
    }
}

/// Whether a shell is out of the question without it.
fn is_needed(action: &str, resource: &str) -> bool {
    match action {
        "ec2:DescribeInstances" => true,
        "ssm:StartSession" => {
            !resource.contains(":document/") || resource.ends_with("/SSM-SessionManagerRunShell")
        }
        _ => false,
    }
}

/// The principal whose policies are those of `identity`: whoever has assumed a role has the role's.
/// `None` for the root user, who is allowed everything, and for what has no policies of its own.
fn principals_of(identity: &Identity, region: &str) -> Vec<String> {
    let arn = &identity.arn;
    let Some((head, rest)) = arn.split_once(":assumed-role/") else {
        return match arn.contains(":user/") {
            true => vec![arn.clone()],
            false => Vec::new(),
        };
    };
    let name = rest.split('/').next().unwrap_or_default();
    let head = head.replacen(":sts:", ":iam:", 1);
    // Roles of IAM Identity Center stand below a path that the assumed role does not tell. Source:
    // "IAM Identity Center: using service-linked roles", and role ARNs in the field.
    if name.starts_with("AWSReservedSSO_") {
        let path = "aws-reserved/sso.amazonaws.com";
        return vec![
            format!("{head}:role/{path}/{region}/{name}"),
            format!("{head}:role/{path}/{name}"),
        ];
    }
    vec![format!("{head}:role/{name}")]
}

/// Every document that a verb opens sessions with, as the policy has them.
fn documents(region: &str, account: &str) -> Vec<String> {
    iam::Statement::of("ssm:StartSession")
        .into_iter()
        .flat_map(|statement| statement.resources)
        .filter_map(|arn| arn.rsplit_once(":document/"))
        .map(|(_, name)| iam::document_arn(region, account, name))
        .collect()
}

impl Context {
    /// What the caller is allowed of all that `ops` calls, on `instance` or on any, by the policy
    /// simulator.
    ///
    /// # Errors
    /// The simulator may not be asked, or does not know the caller.
    pub async fn permissions(
        &self,
        instance: Option<&Instance>,
        region: &str,
    ) -> Result<Permissions> {
        let identity = self.identity().await?;
        if identity.arn.ends_with(":root") {
            return Ok(Permissions::default());
        }
        let mut failure = Error::new(ErrorKind::Denied, "the caller's policies are not known")
            .caused_by("it is neither a user nor a role");
        for principal in principals_of(identity, region) {
            match self
                .simulate_all(&principal, identity, instance, region)
                .await
            {
                Ok(permissions) => return Ok(permissions),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn simulate_all(
        &self,
        principal: &str,
        identity: &Identity,
        instance: Option<&Instance>,
        region: &str,
    ) -> Result<Permissions> {
        let account = &identity.account;
        let partition = Partition::of(region).name;
        let server = instance.map_or_else(
            || format!("arn:{partition}:ec2:{region}:{account}:instance/*"),
            |instance| iam::instance_arn(instance, account),
        );
        let mut targets = documents(region, account);
        targets.insert(0, server);
        let caller = identity.user_id.rsplit(':').next().unwrap_or("caller");
        let session =
            format!("arn:{partition}:ssm:{region}:{account}:session/{caller}-0123456789abcdef0");
        let mut tags: Vec<(String, String)> = Vec::new();
        for (key, value) in instance.into_iter().flat_map(|i| &i.tags).take(TOLD_TAGS) {
            tags.push((format!("ssm:resourceTag/{key}"), value.clone()));
            tags.push((format!("aws:ResourceTag/{key}"), value.clone()));
        }
        let of_caller = [
            ("aws:userid".to_owned(), identity.user_id.clone()),
            ("aws:username".to_owned(), caller.to_owned()),
            (
                "ssm:resourceTag/aws:ssmmessages:session-id".to_owned(),
                identity.user_id.clone(),
            ),
        ];
        let everywhere = [
            "ec2:DescribeInstances",
            "ssm:DescribeInstanceInformation",
            "ssmmessages:OpenDataChannel",
            ACCESS_REQUEST,
        ];
        let own = ["ssm:TerminateSession", "ssm:ResumeSession"];
        // On the server alone: a policy that allows commands on some servers allows them on `*` to
        // nobody.
        let of_server = ["ssm:SendCommand", "ec2-instance-connect:SendSSHPublicKey"];
        // A hybrid node has no EC2 Instance Connect that could be allowed.
        let is_hybrid = instance.is_some_and(|instance| instance.kind == Kind::Hybrid);
        let on_server = match is_hybrid {
            true => &of_server[..1],
            false => &of_server[..],
        };
        let anywhere = OPTIONAL.map(|(action, _)| action);
        let anywhere: Vec<&str> = anywhere
            .into_iter()
            .filter(|action| !of_server.contains(action))
            .collect();
        let (everywhere, anywhere, on_server, starts, own) = tokio::try_join!(
            Box::pin(self.simulate(principal, &everywhere, &[], &[])),
            Box::pin(self.simulate(principal, &anywhere, &[], &[])),
            Box::pin(self.simulate(principal, on_server, &targets[..1], &tags)),
            Box::pin(self.simulate(principal, &["ssm:StartSession"], &targets, &tags)),
            Box::pin(self.simulate(principal, &own, std::slice::from_ref(&session), &of_caller)),
        )?;
        let mut permissions = Permissions::default();
        for decision in everywhere.into_iter().chain(starts).chain(own) {
            if decision
                .missing_context
                .iter()
                .any(|key| key == DOCUMENT_CHECK)
            {
                permissions.checks_documents = true;
            }
            if decision.action == ACCESS_REQUEST {
                permissions.is_just_in_time = decision.is_allowed;
                continue;
            }
            permissions.all.push(Permission {
                is_needed: is_needed(&decision.action, &decision.resource),
                verdict: match (decision.is_allowed, decision.is_explicit) {
                    (true, _) => Verdict::Allowed,
                    (false, true) => Verdict::Forbidden,
                    (false, false) => Verdict::NotAllowed,
                },
                action: decision.action,
                resource: decision.resource,
            });
        }
        for decision in anywhere.into_iter().chain(on_server) {
            let optional = OPTIONAL
                .into_iter()
                .find(|(action, _)| !decision.is_allowed && *action == decision.action);
            permissions.optional.extend(optional);
        }
        // Whoever may open sessions and ask for access too needs no access request.
        let is_shut_out = permissions.missing().any(|missing| missing.is_needed);
        permissions.is_just_in_time &= is_shut_out;
        Ok(permissions)
    }

    /// Whether the caller may ask for just-in-time access. False where nobody tells.
    pub(super) async fn may_request_access(&self, region: &str) -> bool {
        let Ok(identity) = self.identity().await else {
            return false;
        };
        for principal in principals_of(identity, region) {
            if let Ok(decisions) = self.simulate(&principal, &[ACCESS_REQUEST], &[], &[]).await {
                return decisions.iter().any(|decision| decision.is_allowed);
            }
        }
        false
    }

    /// SimulatePrincipalPolicy: every action on every resource, `*` where there are none, with the
    /// values of `context`.
    ///
    /// # Errors
    /// Those of the call; no such principal.
    pub(super) async fn simulate(
        &self,
        principal: &str,
        actions: &[&str],
        resources: &[String],
        context: &[(String, String)],
    ) -> Result<Vec<Decision>> {
        let mut parameters = vec![("PolicySourceArn".to_owned(), principal.to_owned())];
        for (index, action) in actions.iter().enumerate() {
            let name = format!("ActionNames.member.{}", index + 1);
            parameters.push((name, (*action).to_owned()));
        }
        for (index, resource) in resources.iter().enumerate() {
            let name = format!("ResourceArns.member.{}", index + 1);
            parameters.push((name, resource.clone()));
        }
        for (index, (key, value)) in context.iter().enumerate() {
            let entry = format!("ContextEntries.member.{}", index + 1);
            parameters.push((format!("{entry}.ContextKeyName"), key.clone()));
            parameters.push((format!("{entry}.ContextKeyValues.member.1"), value.clone()));
            parameters.push((format!("{entry}.ContextKeyType"), "string".to_owned()));
        }
        self.ask_iam(
            "SimulatePrincipalPolicy",
            "iam:SimulatePrincipalPolicy",
            &parameters,
            |answer| {
                answer.xml(|root| {
                    let mut decisions = Vec::new();
                    read_results(root, &mut decisions)?;
                    Ok(decisions)
                })
            },
        )
        .await
    }
}

type Decoder<'a, 'b> = aws_smithy_xml::decode::ScopedDecoder<'a, 'b>;
type XmlResult<T> = Result<T, aws_smithy_xml::decode::XmlDecodeError>;

fn read_results(parent: &mut Decoder<'_, '_>, decisions: &mut Vec<Decision>) -> XmlResult<()> {
    while let Some(mut child) = parent.next_tag() {
        if child.start_el().matches("EvaluationResults") {
            while let Some(mut member) = child.next_tag() {
                decisions.push(read_decision(&mut member)?);
            }
        } else {
            read_results(&mut child, decisions)?;
        }
    }
    Ok(())
}

fn read_decision(member: &mut Decoder<'_, '_>) -> XmlResult<Decision> {
    let (mut action, mut resource, mut decision) = (String::new(), "*".to_owned(), String::new());
    let mut missing_context = Vec::new();
    while let Some(mut field) = member.next_tag() {
        let into = match field.start_el().local() {
            "EvalActionName" => &mut action,
            "EvalResourceName" => &mut resource,
            "EvalDecision" => &mut decision,
            "MissingContextValues" => {
                while let Some(mut key) = field.next_tag() {
                    missing_context.push(aws_smithy_xml::decode::try_data(&mut key)?.into_owned());
                }
                continue;
            }
            _ => continue,
        };
        *into = aws_smithy_xml::decode::try_data(&mut field)?.into_owned();
    }
    Ok(Decision {
        action,
        resource,
        is_allowed: decision == "allowed",
        is_explicit: decision == "explicitDeny",
        missing_context,
    })
}

#[cfg(test)]
mod tests {
    use aws_smithy_xml::decode::Document;

    use super::*;

    fn identity(arn: &str) -> Identity {
        Identity {
            account: "111122223333".to_owned(),
            arn: arn.to_owned(),
            user_id: "AROAEXAMPLE:alice".to_owned(),
        }
    }

    #[test]
    fn whoever_has_assumed_a_role_has_the_policies_of_the_role() {
        let of = |arn| principals_of(&identity(arn), "eu-west-1");
        assert_eq!(
            of("arn:aws:sts::111122223333:assumed-role/oncall/alice"),
            ["arn:aws:iam::111122223333:role/oncall"]
        );
        assert_eq!(
            of("arn:aws-cn:sts::1:assumed-role/AWSReservedSSO_Ops_0123/alice"),
            [
                "arn:aws-cn:iam::1:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Ops_0123",
                "arn:aws-cn:iam::1:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Ops_0123"
            ]
        );
        let user = "arn:aws:iam::111122223333:user/team/alice";
        assert_eq!(of(user), [user]);
        assert!(of("arn:aws:iam::111122223333:root").is_empty());
    }

    #[test]
    fn decisions_are_read_with_what_they_lacked() {
        // The form of the example in the API reference of the call.
        let text = "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults><member><MatchedStatements><member><SourcePolicyId>p</SourcePolicyId></member></MatchedStatements><MissingContextValues><member>ssm:SessionDocumentAccessCheck</member></MissingContextValues><EvalResourceName>*</EvalResourceName><EvalDecision>allowed</EvalDecision><EvalActionName>ssm:StartSession</EvalActionName></member><member><MatchedStatements/><EvalResourceName>*</EvalResourceName><EvalDecision>explicitDeny</EvalDecision><EvalActionName>ec2:DescribeInstances</EvalActionName></member></EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>";
        let mut document = Document::try_from(text.as_bytes()).expect("XML");
        let mut found = Vec::new();
        read_results(&mut document.root_element().expect("a root"), &mut found).expect("results");
        assert_eq!(found.len(), 2);
        assert!(found[0].is_allowed && found[0].missing_context == [DOCUMENT_CHECK]);
        assert!(found[1].is_explicit && found[1].action == "ec2:DescribeInstances");
    }

    #[test]
    fn what_is_missing_is_one_policy() {
        let arn = "arn:aws:ec2:eu-west-1:1:instance/i-0a1b2c3d".to_owned();
        let permissions = Permissions::of_tries([
            ("ssm:StartSession", arn.clone()),
            ("ssm:TerminateSession", "*".to_owned()),
            ("ssm:ResumeSession", "*".to_owned()),
        ]);
        let policy = permissions.policy_to_add("eu-west-1").expect("a policy");
        let statements = policy["Statement"].as_array().expect("statements");
        assert_eq!(statements.len(), 2, "{policy}");
        assert_eq!(statements[0]["Resource"][0], arn);
        // Where the simulator was not asked, nobody knows of the document.
        assert_eq!(
            statements[0]["Resource"][1],
            "arn:aws:ssm:eu-west-1:1:document/SSM-SessionManagerRunShell"
        );
        assert_eq!(statements[1]["Sid"], "OwnSessions");
        assert_eq!(Permissions::default().policy_to_add("eu-west-1"), None);
    }
}
