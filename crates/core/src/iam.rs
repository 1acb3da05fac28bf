//! What the caller has to be allowed: the one source of the policies in the documentation and of
//! the statements in errors.

use ops_profile::{Instance, Kind};
use serde_json::{Value, json};

use crate::partition::Partition;

/// One statement of the policy that a user of `ops` needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its `Sid`.
    pub id: &'static str,
    /// What it allows.
    pub actions: &'static [&'static str],
    /// On what; in ARNs of the partition `aws`.
    pub resources: &'static [&'static str],
    /// Whether it is for sessions of the caller's own alone.
    pub own_sessions: bool,
    /// What it is for, in words.
    pub purpose: &'static str,
}

/// What a client calls for an encrypted session.
pub const GENERATE_DATA_KEY: &str = "kms:GenerateDataKey";
/// What the agent of the server calls for it, with the server's role.
pub const DECRYPT: &str = SERVER_CALLS[0];
/// What servers call and no verb does.
pub const SERVER_CALLS: &[&str] = &["kms:Decrypt"];

/// What an agent calls before Systems Manager knows of it, and for a session. Source: the policy
/// AmazonSSMManagedInstanceCore; `ec2messages` is for agents before 3.3.40.0 alone.
pub(crate) const AGENT_CALLS: &[&str] = &[
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenDataChannel",
];
/// The managed policy that gives an agent what it needs.
pub(crate) const AGENT_POLICY_ARN: &str = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore";

/// Whether the managed policy `name` of AWS gives an agent what it needs. Source: the reference of
/// AWS managed policies.
pub(crate) fn is_agent_policy(name: &str) -> bool {
    [
        "AmazonSSMManagedInstanceCore",
        "AmazonSSMManagedEC2InstanceDefaultPolicy",
        "AmazonEC2RoleforSSM",
        "AmazonSSMFullAccess",
        "AdministratorAccess",
    ]
    .contains(&name)
}

/// What `doctor` tries beside everything else; each is welcome and none is needed.
pub(crate) const DIAGNOSIS: Statement = Statement {
    id: "Diagnosis",
    actions: &[
        "ec2:DescribeRouteTables",
        "ec2:DescribeVpcEndpoints",
        "ec2:DescribeSecurityGroups",
        "ec2:GetConsoleOutput",
        "iam:GetInstanceProfile",
        "iam:ListAttachedRolePolicies",
        "iam:SimulatePrincipalPolicy",
        "ssm:DescribeActivations",
        "ssm:GetServiceSetting",
    ],
    resources: &["*"],
    own_sessions: false,
    purpose: "`doctor` alone, and optional: without it `doctor` says what it has not looked at",
};

/// The whole policy.
///
/// Ids of sessions begin with the name of the IAM user or of the role's session, so that
/// `session/${aws:userid}-*` matches none; what works is the tag that the service gives each
/// session. `ssmmessages:OpenDataChannel` has no resource type. Source: Example 4 of "Additional
/// sample IAM policies for Session Manager" and the service authorization reference.
pub(crate) const POLICY: &[Statement] = &[
    Statement {
        id: "FindServers",
        actions: &[
            "ec2:DescribeInstances",
            "ec2:DescribeRegions",
            "ssm:DescribeInstanceInformation",
        ],
        resources: &["*"],
        own_sessions: false,
        purpose: "lists, and names of EC2 instances",
    },
    Statement {
        id: "NamesOfHybridNodes",
        actions: &["ssm:ListTagsForResource"],
        resources: &["arn:aws:ssm:*:*:managed-instance/*"],
        own_sessions: false,
        purpose: "tags, and so names, of hybrid nodes",
    },
    Statement {
        id: "OpenSessions",
        actions: &["ssm:StartSession"],
        resources: &[
            "arn:aws:ec2:*:*:instance/*",
            "arn:aws:ssm:*:*:managed-instance/*",
            "arn:aws:ssm:*:*:document/SSM-SessionManagerRunShell",
            "arn:aws:ssm:*::document/AWS-StartInteractiveCommand",
            "arn:aws:ssm:*::document/AWS-StartNonInteractiveCommand",
            "arn:aws:ssm:*::document/AWS-StartSSHSession",
            "arn:aws:ssm:*::document/AWS-StartPortForwardingSession",
            "arn:aws:ssm:*::document/AWS-StartPortForwardingSessionToRemoteHost",
        ],
        own_sessions: false,
        purpose: "sessions; narrow the instances by tags, and leave out the documents of verbs that nobody needs",
    },
    Statement {
        id: "OwnSessions",
        actions: &["ssm:ResumeSession", "ssm:TerminateSession"],
        resources: &["arn:aws:ssm:*:*:session/*"],
        own_sessions: true,
        purpose: "taking up a session after a lost connection, and ending it",
    },
    Statement {
        id: "DataChannels",
        actions: &["ssmmessages:OpenDataChannel"],
        resources: &["*"],
        own_sessions: false,
        purpose: "the web socket of a session",
    },
    Statement {
        id: "EncryptedSessions",
        actions: &[GENERATE_DATA_KEY],
        resources: &["arn:aws:kms:*:*:key/*"],
        own_sessions: false,
        purpose: "accounts whose session preferences name a KMS key alone; narrow it to that key",
    },
    Statement {
        id: "DocumentOfCopies",
        actions: &["ssm:GetDocument"],
        resources: &["arn:aws:ssm:*:*:document/*"],
        own_sessions: false,
        purpose: "what stands around the parameter of `copy.document` and `exec.document`; whether and where the account logs sessions, and has them encrypted. `cp`, `exec` and `sessions log` need it; without it, a session that is not encrypted although earlier ones were is refused unseen",
    },
    Statement {
        id: "ListSessions",
        actions: &["ssm:DescribeSessions"],
        resources: &["*"],
        own_sessions: false,
        purpose: "`sessions`: everybody's in the account; ending those of others needs `ssm:TerminateSession` without the condition of `OwnSessions`",
    },
    Statement {
        id: "LogsOfSessions",
        actions: &["logs:GetLogEvents"],
        resources: &["arn:aws:logs:*:*:log-group:*"],
        own_sessions: false,
        purpose: "`sessions log` where the account logs sessions to CloudWatch, and `exec.log_group`; narrow it to those log groups, of which the first holds all that anybody typed and saw",
    },
    Statement {
        id: "NameOfTheAccount",
        actions: &["iam:ListAccountAliases"],
        resources: &["*"],
        own_sessions: false,
        purpose: "`whoami`: the alias of the account; without it the number stands alone",
    },
    Statement {
        id: "RunCommands",
        actions: &["ssm:SendCommand"],
        resources: &[
            "arn:aws:ec2:*:*:instance/*",
            "arn:aws:ssm:*:*:managed-instance/*",
            "arn:aws:ssm:*::document/AWS-RunShellScript",
            "arn:aws:ssm:*::document/AWS-RunPowerShellScript",
        ],
        own_sessions: false,
        purpose: "exec --via run-command alone, which runs as root; narrow the instances by tags",
    },
    Statement {
        id: "HistoryOfCommands",
        actions: &[
            "ssm:ListCommands",
            "ssm:ListCommandInvocations",
            "ssm:GetCommandInvocation",
            "ssm:CancelCommand",
        ],
        resources: &["*"],
        own_sessions: false,
        purpose: "exec --via run-command and `runs` alone: what became of commands, everybody's, with what they print; and cancelling them",
    },
    Statement {
        id: "MembersOfResourceGroups",
        actions: &["resource-groups:ListGroupResources", "tag:GetResources"],
        resources: &["*"],
        own_sessions: false,
        purpose: "exec --resource-group alone; groups by CloudFormation stacks need `cloudformation:DescribeStacks` and `cloudformation:ListStackResources` too",
    },
    Statement {
        id: "SshWithoutLongLivedKeys",
        actions: &["ec2-instance-connect:SendSSHPublicKey"],
        resources: &["arn:aws:ec2:*:*:instance/*"],
        own_sessions: false,
        purpose: "--instance-connect alone",
    },
    Statement {
        id: "ConsoleWithAUsersKeys",
        actions: &["sts:GetFederationToken"],
        resources: &["*"],
        own_sessions: false,
        purpose: "console --login with the long-lived keys of an IAM user alone",
    },
];

/// Which actions a verb calls. Those of a verb's second column are called in some of its uses
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// The verb.
    pub verb: &'static str,
    /// Called whenever the verb reaches a server by its name.
    pub always: &'static [&'static str],
    /// Called in some uses, with which.
    pub sometimes: &'static [(&'static str, &'static str)],
}

/// What finding a server by name calls.
const FIND: &[&str] = &["ec2:DescribeInstances", "ssm:DescribeInstanceInformation"];
/// What a verb with a session calls.
const SESSION: &[&str] = &[
    "ec2:DescribeInstances",
    "ssm:DescribeInstanceInformation",
    "ssm:StartSession",
    "ssm:TerminateSession",
    "ssmmessages:OpenDataChannel",
];
const HYBRID: (&str, &str) = ("ssm:ListTagsForResource", "hybrid nodes");
const RESUME: (&str, &str) = ("ssm:ResumeSession", "after a lost connection");
const ENCRYPTED: (&str, &str) = (
    GENERATE_DATA_KEY,
    "sessions that the account's preferences have encrypted",
);
const UNENCRYPTED: (&str, &str) = (
    "ssm:GetDocument",
    "a session that is not encrypted although earlier ones were",
);
const KEYS_ENCRYPTED: (&str, &str) = (
    GENERATE_DATA_KEY,
    "`ssh.host_keys: ssm` where the account's preferences have sessions encrypted",
);
const PUSH: (&str, &str) = (
    "ec2-instance-connect:SendSSHPublicKey",
    "`--instance-connect`",
);

/// The calls of each verb that makes any, beside those of credentials: see [`CREDENTIALS`].
pub const CALLS: &[Calls] = &[
    Calls {
        verb: "ls",
        always: FIND,
        sometimes: &[HYBRID, ("ec2:DescribeRegions", "`--all-regions`")],
    },
    Calls {
        verb: "describe",
        always: FIND,
        sometimes: &[HYBRID],
    },
    Calls {
        verb: "pick",
        always: FIND,
        sometimes: &[HYBRID],
    },
    Calls {
        verb: "recent",
        always: &[],
        sometimes: &[],
    },
    Calls {
        verb: "cache",
        always: FIND,
        sometimes: &[HYBRID],
    },
    Calls {
        verb: "shell",
        always: SESSION,
        sometimes: &[HYBRID, RESUME, ENCRYPTED, UNENCRYPTED],
    },
    Calls {
        verb: "exec",
        always: SESSION,
        sometimes: &[
            HYBRID,
            RESUME,
            ENCRYPTED,
            (
                "ssm:GetDocument",
                "`exec.document`, `--document`; a session that is not encrypted although earlier ones were",
            ),
            ("ssm:SendCommand", "`--via run-command`"),
            ("ssm:ListCommands", "`--via run-command`"),
            ("ssm:ListCommandInvocations", "`--via run-command`"),
            (
                "ssm:GetCommandInvocation",
                "`--via run-command`: long outputs",
            ),
            (
                "ssm:CancelCommand",
                "`--via run-command`: servers that are away, and Ctrl-C",
            ),
            ("s3:ListBucket", "`exec.s3_bucket`: its region"),
            ("s3:GetObject", "`exec.s3_bucket`: long outputs"),
            ("logs:GetLogEvents", "`exec.log_group`: long outputs"),
            ("resource-groups:ListGroupResources", "`--resource-group`"),
            ("tag:GetResources", "`--resource-group`"),
        ],
    },
    Calls {
        verb: "runs",
        always: &["ssm:ListCommands"],
        sometimes: &[
            ("ssm:ListCommandInvocations", "`show`, `wait`"),
            ("ssm:GetCommandInvocation", "`show`, `wait`: long outputs"),
            ("ssm:CancelCommand", "`cancel`"),
            ("ec2:DescribeInstances", "`show`, `wait`: names of servers"),
            (
                "ssm:DescribeInstanceInformation",
                "`show`, `wait`: names of servers",
            ),
            HYBRID,
            ("s3:ListBucket", "long outputs in a bucket: its region"),
            ("s3:GetObject", "long outputs in a bucket"),
            ("logs:GetLogEvents", "long outputs in a log group"),
        ],
    },
    Calls {
        verb: "logs",
        always: SESSION,
        sometimes: &[
            HYBRID,
            RESUME,
            ENCRYPTED,
            (
                "ssm:GetDocument",
                "`exec.document`; a session that is not encrypted although earlier ones were",
            ),
        ],
    },
    Calls {
        verb: "cp",
        always: SESSION,
        sometimes: &[
            HYBRID,
            RESUME,
            ENCRYPTED,
            PUSH,
            (
                "ssm:GetDocument",
                "`copy.document`, and large copies by session; a session that is not encrypted although earlier ones were",
            ),
            ("s3:ListBucket", "`--via s3`: the region of the bucket"),
            ("s3:PutObject", "`--via s3`"),
            ("s3:GetObject", "`--via s3`"),
            ("s3:DeleteObject", "`--via s3`"),
        ],
    },
    Calls {
        verb: "forward",
        always: SESSION,
        sometimes: &[HYBRID, RESUME],
    },
    Calls {
        verb: "ssh",
        always: SESSION,
        sometimes: &[HYBRID, RESUME, KEYS_ENCRYPTED, UNENCRYPTED, PUSH],
    },
    Calls {
        verb: "ssh-proxy",
        always: SESSION,
        sometimes: &[HYBRID, RESUME, KEYS_ENCRYPTED, UNENCRYPTED, PUSH],
    },
    Calls {
        verb: "api",
        always: FIND,
        sometimes: &[
            HYBRID,
            RESUME,
            ("ssm:StartSession", "`connect`"),
            ("ssm:TerminateSession", "`connect`"),
            ("ssmmessages:OpenDataChannel", "`connect`"),
        ],
    },
    Calls {
        verb: "ssh-config",
        always: FIND,
        sometimes: &[HYBRID, ("ec2:DescribeRegions", "`--all-regions`")],
    },
    Calls {
        verb: "console",
        always: FIND,
        sometimes: &[
            HYBRID,
            (
                "sts:GetFederationToken",
                "`--login` with keys of an IAM user",
            ),
        ],
    },
    Calls {
        verb: "doctor",
        always: SESSION,
        sometimes: &[
            HYBRID,
            ENCRYPTED,
            ("ec2:DescribeRegions", OPTIONAL),
            ("ssm:GetDocument", OPTIONAL),
            ("ec2:DescribeRouteTables", OPTIONAL),
            ("ec2:DescribeVpcEndpoints", OPTIONAL),
            ("ec2:DescribeSecurityGroups", OPTIONAL),
            ("ec2:GetConsoleOutput", OPTIONAL),
            ("iam:GetInstanceProfile", OPTIONAL),
            ("iam:ListAttachedRolePolicies", OPTIONAL),
            ("iam:SimulatePrincipalPolicy", OPTIONAL),
            ("ssm:DescribeActivations", OPTIONAL),
            ("ssm:GetServiceSetting", OPTIONAL),
        ],
    },
    Calls {
        verb: "wait",
        always: FIND,
        sometimes: &[
            HYBRID,
            ("ssm:StartSession", "`--for session`"),
            ("ssm:TerminateSession", "`--for session`"),
            ("ssmmessages:OpenDataChannel", "`--for session`"),
            (
                GENERATE_DATA_KEY,
                "`--for session` where the account's preferences have sessions encrypted",
            ),
            UNENCRYPTED,
        ],
    },
    Calls {
        verb: "sessions",
        always: &["ssm:DescribeSessions"],
        sometimes: &[
            ("ec2:DescribeInstances", "names of servers"),
            ("ssm:DescribeInstanceInformation", "names of hybrid nodes"),
            ("ssm:ListTagsForResource", "names of hybrid nodes"),
            ("ec2:DescribeRegions", "`--all-regions`"),
            ("ssm:TerminateSession", "`sessions end`"),
            ("ssm:GetDocument", "`sessions log`"),
            ("logs:GetLogEvents", "`sessions log`"),
            ("s3:ListBucket", "`sessions log`: the region of the bucket"),
            ("s3:GetObject", "`sessions log`"),
        ],
    },
    Calls {
        verb: "whoami",
        always: &["sts:GetCallerIdentity"],
        sometimes: &[("iam:ListAccountAliases", "the alias of the account")],
    },
];

/// Why `doctor` calls what it can do without.
const OPTIONAL: &str = "optional: told as skipped where it is denied";

/// What finding credentials calls, whatever the verb. None of it has to be allowed to the caller
/// but the role that is assumed.
pub const CREDENTIALS: &[&str] = &[
    "sts:GetCallerIdentity",
    "sts:AssumeRole",
    "sso-oauth:RegisterClient",
    "sso-oauth:StartDeviceAuthorization",
    "sso-oauth:CreateToken",
    "sso:Logout",
];

impl Statement {
    /// The statement that allows `action`; `None` for one that no verb calls.
    pub fn of(action: &str) -> Option<&'static Self> {
        POLICY
            .iter()
            .chain([&DIAGNOSIS])
            .find(|statement| statement.actions.contains(&action))
    }

    /// As JSON, in `partition`.
    pub fn json(&self, partition: Partition) -> Value {
        let one_or_all = |texts: Vec<String>| match texts.as_slice() {
            [one] => json!(one),
            all => json!(all),
        };
        let actions = self.actions.iter().map(|&action| action.to_owned());
        let resources = self.resources.iter().map(|arn| partition.in_arns(arn));
        let mut statement = json!({
            "Sid": self.id,
            "Effect": "Allow",
            "Action": one_or_all(actions.collect()),
            "Resource": one_or_all(resources.collect()),
        });
        if self.own_sessions {
            statement["Condition"] = json!({
                "StringLike": {
                    "ssm:resourceTag/aws:ssmmessages:session-id": "${aws:userid}*"
                }
            });
        }
        statement
    }
}

/// The policy as a document, in `partition`.
pub fn policy(partition: Partition) -> Value {
    let statements: Vec<Value> = POLICY
        .iter()
        .map(|statement| statement.json(partition))
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The statement that allows `action` in `region`, on one line; `None` for an action that is in no
/// statement.
pub(crate) fn statement_text(action: &str, region: &str) -> Option<String> {
    Statement::of(action).map(|statement| statement.json(Partition::of(region)).to_string())
}

/// A statement for `action` on the KMS key `key`, on one line. A key that is named by an alias or
/// by an id alone is none that a statement can name.
pub fn key_statement(action: &str, key: &str) -> String {
    let resource = if key.starts_with("arn:") && key.contains(":key/") {
        key
    } else {
        "arn:aws:kms:*:*:key/*"
    };
    json!({ "Effect": "Allow", "Action": action, "Resource": resource }).to_string()
}

/// A statement for sessions on `arns`, servers and documents, on one line.
pub fn start_session(arns: &[&str]) -> String {
    json!({ "Effect": "Allow", "Action": "ssm:StartSession", "Resource": arns }).to_string()
}

/// The ARN of an instance or a hybrid node; `account` may be `*`.
pub fn instance_arn(instance: &Instance, account: &str) -> String {
    let (service, kind) = match instance.kind {
        Kind::Ec2 => ("ec2", "instance"),
        Kind::Hybrid => ("ssm", "managed-instance"),
    };
    let (region, id) = (&instance.region, &instance.id);
    let partition = Partition::of(region).name;
    format!("arn:{partition}:{service}:{region}:{account}:{kind}/{id}")
}

/// The ARN of a document. AWS's own have no account in it, the preferences and documents of an
/// account have theirs.
pub fn document_arn(region: &str, account: &str, name: &str) -> String {
    // A document of another account is named by its ARN.
    if name.starts_with("arn:") {
        return name.to_owned();
    }
    let account = if name.starts_with("AWS-") {
        ""
    } else {
        account
    };
    let partition = Partition::of(region).name;
    format!("arn:{partition}:ssm:{region}:{account}:document/{name}")
}

#[cfg(test)]
mod tests;
