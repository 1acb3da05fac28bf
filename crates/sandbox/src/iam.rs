//! Identity and Access Management: what the account calls itself, instance profiles, the policies
//! of roles, and what a principal is allowed.

use http::StatusCode;

use crate::{
    app::{App, Call},
    error::ApiError,
    query,
    reply::Reply,
    xml::Form,
};

/// The most that one simulation takes. Source: the quotas of IAM and the model of the call.
const MAX_ACTION_CHARS: usize = 128;

pub(crate) fn answer(app: &App, call: &Call, action: &str, form: &Form) -> Result<Reply, ApiError> {
    match action {
        "ListAccountAliases" => Ok(list_account_aliases(app, call)),
        "GetInstanceProfile" => get_instance_profile(app, call, form),
        "ListAttachedRolePolicies" => list_attached_role_policies(app, call, form),
        "SimulatePrincipalPolicy" => simulate(app, call, form),
        other => Err(ApiError::unknown_action(call.service, other)),
    }
}

fn no_such_entity(what: &str, name: &str) -> ApiError {
    ApiError::new("NoSuchEntity", format!("{what} {name} cannot be found."))
        .with_status(StatusCode::NOT_FOUND)
}

fn required<'a>(form: &'a Form, name: &str) -> Result<&'a str, ApiError> {
    form.value(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        ApiError::new(
            "ValidationError",
            format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"),
        )
    })
}

fn list_account_aliases(app: &App, call: &Call) -> Reply {
    query::answer(call, "ListAccountAliases", |xml| {
        xml.text("IsTruncated", "false");
        xml.element("AccountAliases", |xml| {
            if let Some(alias) = &app.fleet.file().account_alias {
                xml.text("member", alias);
            }
        });
    })
}

/// Whether a machine of the fleet has this role, which is all the roles there are.
fn is_role(app: &App, name: &str) -> bool {
    app.fleet.file().server_roles.contains_key(name)
        || app
            .fleet
            .all_listed()
            .iter()
            .any(|machine| machine.role.as_deref() == Some(name))
}

fn get_instance_profile(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let name = required(form, "InstanceProfileName")?;
    if !is_role(app, name) {
        return Err(no_such_entity("Instance Profile", name));
    }
    let account = &call.identity.account;
    Ok(query::answer(call, "GetInstanceProfile", |xml| {
        xml.element("InstanceProfile", |xml| {
            xml.text("Path", "/")
                .text("InstanceProfileName", name)
                .text("InstanceProfileId", "AIPAEXAMPLEOFTHESANDBX")
                .text(
                    "Arn",
                    &format!("arn:aws:iam::{account}:instance-profile/{name}"),
                )
                .text("CreateDate", "2024-05-01T09:00:00Z")
                .element("Roles", |xml| {
                    xml.element("member", |xml| {
                        xml.text("Path", "/")
                            .text("RoleName", name)
                            .text("RoleId", "AROAEXAMPLEOFTHESANDBX")
                            .text("Arn", &format!("arn:aws:iam::{account}:role/{name}"))
                            .text("CreateDate", "2024-05-01T09:00:00Z");
                    });
                });
        });
    }))
}

fn list_attached_role_policies(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let name = required(form, "RoleName")?;
    if !is_role(app, name) {
        return Err(no_such_entity("The role with name", name));
    }
    let role = app.fleet.file().server_role(name);
    Ok(query::answer(call, "ListAttachedRolePolicies", |xml| {
        xml.element("AttachedPolicies", |xml| {
            for policy in &role.policies {
                xml.element("member", |xml| {
                    xml.text("PolicyName", policy)
                        .text("PolicyArn", &format!("arn:aws:iam::aws:policy/{policy}"));
                });
            }
        })
        .text("IsTruncated", "false");
    }))
}

/// SimulatePrincipalPolicy: of roles of machines what their policies say, of everybody else all
/// but what a fault denies.
fn simulate(app: &App, call: &Call, form: &Form) -> Result<Reply, ApiError> {
    let principal = required(form, "PolicySourceArn")?;
    let actions = form.list("ActionNames.member");
    let mut resources = form.list("ResourceArns.member");
    if actions.is_empty() || actions.iter().any(|name| name.len() > MAX_ACTION_CHARS) {
        return Err(ApiError::new(
            "InvalidInput",
            "ActionNames is missing or has a name that is none",
        ));
    }
    // Whoever has assumed a role is no principal that has policies.
    if principal.contains(":assumed-role/") || !principal.contains(":iam::") {
        return Err(ApiError::new(
            "InvalidInput",
            format!(
                "Invalid Entity Arn: {principal} does not clearly define entity type and name."
            ),
        ));
    }
    let role = principal
        .rsplit_once(":role/")
        .and_then(|(_, path)| path.rsplit('/').next());
    if resources.is_empty() {
        resources.push("*");
    }
    let checks_documents =
        app.faults().document_check && role.is_none_or(|name| !is_role(app, name));
    let is_allowed = |action: &str, resource: &str| match role {
        Some(name) if is_role(app, name) => app.fleet.file().server_role(name).allows(action),
        _ if action == "ssm:StartAccessRequest" => app.faults().just_in_time,
        _ => !app.faults().deny.iter().any(|rule| {
            let (denied, of) = rule.split_once('/').unwrap_or((rule, "*"));
            let is_action = action == denied || action.split(':').nth(1) == Some(denied);
            is_action && (of == "*" || resource.rsplit('/').next() == Some(of))
        }),
    };
    Ok(query::answer(call, "SimulatePrincipalPolicy", |xml| {
        xml.text("IsTruncated", "false")
            .element("EvaluationResults", |xml| {
                for action in &actions {
                    for resource in &resources {
                        let decision = match is_allowed(action, resource) {
                            true => "allowed",
                            false => "implicitDeny",
                        };
                        xml.element("member", |xml| {
                            xml.text("EvalActionName", action)
                                .text("EvalResourceName", resource)
                                .text("EvalDecision", decision)
                                .element("MatchedStatements", |_| {})
                                .element("MissingContextValues", |xml| {
                                    // A condition whose key the simulation was not told.
                                    if checks_documents && *action == "ssm:StartSession" {
                                        xml.text("member", "ssm:SessionDocumentAccessCheck");
                                    }
                                });
                        });
                    }
                }
            });
    }))
}
