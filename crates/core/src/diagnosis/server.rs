//! What EC2, Systems Manager and IAM know of one server: each question by one call.

use aws_sdk_ssm::types::{
    DescribeActivationsFilter, DescribeActivationsFilterKeys, InstanceInformationStringFilter,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ops_profile::{Instance, Kind, Ping};
use ops_ui::{Error, ErrorKind, Result};

use super::facts::{AgentReport, Ec2Machine, RoleReach};
use crate::{
    aws::{
        Service, code_of,
        direct::{DirectAnswer, DirectCall, DirectFailure, Input, Limits, texts_of},
    },
    context::Context,
    iam, inventory,
    partition::Partition,
};

/// The version of IAM's API. Source: its service model.
const IAM_VERSION: &str = "2010-05-08";
/// Which setting holds the role of Default Host Management. Source: "Default Host Management
/// Configuration" of the Systems Manager user guide.
const DEFAULT_ROLE_SETTING: &str = "/ssm/managed-instance/default-ec2-instance-management-role";
/// What the service says where no role is set.
const NO_ROLE: &str = "$None";
/// Lines of a console that are shown.
const CONSOLE_LINES: usize = 5;
impl Context {
    /// `instance` as EC2 has it now (DescribeInstances by its id).
    ///
    /// # Errors
    /// A hybrid node, which EC2 does not know; none of that id (3); those of the call.
    pub async fn ec2_machine(&self, instance: &Instance) -> Result<Ec2Machine> {
        let aws = self.aws().await?;
        let what = format!("EC2 does not tell of `{}`", instance.label());
        if instance.kind == Kind::Hybrid {
            return Err(Error::usage(what).caused_by("a hybrid node is no instance of EC2"));
        }
        let answer = aws
            .clients(&instance.region)
            .ec2
            .describe_instances()
            .instance_ids(&instance.id)
            .send()
            .await
            .map_err(|error| {
                let call = aws.call("ec2:DescribeInstances", None, &instance.region);
                match code_of(&error) {
                    Some("InvalidInstanceID.NotFound") => {
                        call.failed_as(ErrorKind::NotFound, what.clone(), &error)
                    }
                    _ => call.failed(what.clone(), &error),
                }
            })?;
        let found = answer
            .reservations
            .unwrap_or_default()
            .into_iter()
            .flat_map(|reservation| reservation.instances.unwrap_or_default())
            .next()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, what))?;
        let state = found.state.as_ref().and_then(|state| state.name.as_ref());
        let metadata = found
            .metadata_options
            .and_then(|options| options.http_endpoint);
        Ok(Ec2Machine {
            state: state.map(inventory::state_of),
            instance_profile: found.iam_instance_profile.and_then(|profile| profile.arn),
            subnet: found.subnet_id,
            vpc: found.vpc_id,
            private_ip: found.private_ip_address,
            has_public_ip: found.public_ip_address.is_some(),
            groups: found
                .security_groups
                .unwrap_or_default()
                .into_iter()
                .filter_map(|group| group.group_id)
                .collect(),
            metadata_is_off: metadata.is_some_and(|endpoint| endpoint.as_str() == "disabled"),
        })
    }

    /// The agent of `instance` as Systems Manager has it now (DescribeInstanceInformation).
    ///
    /// # Errors
    /// Those of the call.
    pub async fn agent_report(&self, instance: &Instance) -> Result<AgentReport> {
        let aws = self.aws().await?;
        let filter = InstanceInformationStringFilter::builder()
            .key("InstanceIds")
            .values(&instance.id)
            .build();
        let what = format!("the agent of `{}` is not known", instance.label());
        let filter = filter.map_err(|error| Error::unexpected(what.clone()).caused_by(error))?;
        let answer = aws
            .clients(&instance.region)
            .ssm
            .describe_instance_information()
            .filters(filter)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:DescribeInstanceInformation", None, &instance.region)
                    .failed(what, &error)
            })?;
        let found = answer.instance_information_list.unwrap_or_default().pop();
        Ok(match found {
            None => AgentReport {
                ping: Ping::NoAgent,
                version: None,
                platform: None,
                activation: None,
                hybrid_role: None,
            },
            Some(one) => AgentReport {
                ping: inventory::ping_of(&one),
                platform: inventory::platform_of(&one),
                version: one.agent_version,
                activation: one.activation_id,
                hybrid_role: one.iam_role,
            },
        })
    }

    /// What the role of `instance_profile` is allowed: GetInstanceProfile, then the policy
    /// simulator or, where that is denied, the names of its managed policies.
    ///
    /// # Errors
    /// GetInstanceProfile fails: nothing is known of the role.
    pub async fn role_reach(&self, instance_profile: &str) -> Result<RoleReach> {
        let name = instance_profile.rsplit('/').next().unwrap_or_default();
        let roles = self
            .ask_iam(
                "GetInstanceProfile",
                "iam:GetInstanceProfile",
                &[("InstanceProfileName".to_owned(), name.to_owned())],
                |answer| {
                    let mut names = Vec::new();
                    let mut arns = Vec::new();
                    answer.xml(|root| {
                        read_roles(root, &mut names, &mut arns)?;
                        Ok((names, arns))
                    })
                },
            )
            .await?;
        let (Some(role), Some(arn)) = (roles.0.into_iter().next(), roles.1.into_iter().next())
        else {
            // A profile without a role gives nothing at all.
            return Ok(RoleReach {
                name: format!("of profile {name}, which has none"),
                missing: Some(
                    iam::AGENT_CALLS
                        .iter()
                        .map(|&call| call.to_owned())
                        .collect(),
                ),
                policies: None,
            });
        };
        let simulated = self.simulate(&arn, iam::AGENT_CALLS, &[], &[]).await;
        let (missing, policies) = match simulated {
            Ok(decisions) => (
                Some(
                    decisions
                        .into_iter()
                        .filter(|decision| !decision.is_allowed)
                        .map(|decision| decision.action)
                        .collect(),
                ),
                None,
            ),
            Err(_) => {
                let parameters = [("RoleName".to_owned(), role.clone())];
                let listed = self.ask_iam(
                    "ListAttachedRolePolicies",
                    "iam:ListAttachedRolePolicies",
                    &parameters,
                    |answer| answer.xml(policy_names),
                );
                (None, listed.await.ok())
            }
        };
        Ok(RoleReach {
            name: role,
            missing,
            policies,
        })
    }

    /// One call of IAM, in the words of every other call where it fails.
    pub(super) async fn ask_iam<T>(
        &self,
        operation: &'static str,
        action: &'static str,
        parameters: &[(String, String)],
        read: impl FnOnce(DirectAnswer) -> Result<T, DirectFailure>,
    ) -> Result<T> {
        let aws = self.aws().await?;
        let region = Partition::of(&aws.any_region()).iam_region;
        let call = DirectCall {
            service: Service::Iam,
            region,
            input: Input::Query {
                version: IAM_VERSION,
                action: operation,
                parameters,
            },
            limits: Limits::SHORT,
        };
        let answer = aws.ask(&call).await.and_then(read);
        answer.map_err(|failure| failure.told(&aws.call(action, None, region), "IAM does not tell"))
    }

    /// The role that Default Host Management gives to instances without a profile; `None` where
    /// the account does not use that (GetServiceSetting).
    ///
    /// # Errors
    /// Those of the call.
    pub async fn default_host_role(&self, region: &str) -> Result<Option<String>> {
        let aws = self.aws().await?;
        let answer = aws
            .clients(region)
            .ssm
            .get_service_setting()
            .setting_id(DEFAULT_ROLE_SETTING)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:GetServiceSetting", None, region)
                    .failed("Default Host Management is not known", &error)
            })?;
        Ok(answer
            .service_setting
            .and_then(|setting| setting.setting_value)
            .filter(|value| !value.is_empty() && value != NO_ROLE))
    }

    /// Whether the activation `id` has expired (DescribeActivations).
    ///
    /// # Errors
    /// Those of the call; no such activation, which the service forgets with time.
    pub async fn activation_expired(&self, id: &str, region: &str) -> Result<bool> {
        let aws = self.aws().await?;
        let what = "the activation of the node is not known";
        let filter = DescribeActivationsFilter::builder()
            .filter_key(DescribeActivationsFilterKeys::ActivationIds)
            .filter_values(id)
            .build();
        let answer = aws
            .clients(region)
            .ssm
            .describe_activations()
            .filters(filter)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:DescribeActivations", None, region)
                    .failed(what, &error)
            })?;
        let found = answer.activation_list.unwrap_or_default().pop();
        found
            .map(|activation| activation.expired)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, what))
    }

    /// The lines of the server's console that are about its agent, the last ones
    /// (GetConsoleOutput).
    ///
    /// # Errors
    /// Those of the call.
    pub async fn console_of_agent(&self, instance: &Instance) -> Result<Vec<String>> {
        let aws = self.aws().await?;
        let answer = aws
            .clients(&instance.region)
            .ec2
            .get_console_output()
            .instance_id(&instance.id)
            .send()
            .await
            .map_err(|error| {
                aws.call("ec2:GetConsoleOutput", None, &instance.region)
                    .failed("the console is not shown", &error)
            })?;
        let bytes = STANDARD.decode(answer.output.unwrap_or_default());
        Ok(agent_lines(&String::from_utf8_lossy(
            &bytes.unwrap_or_default(),
        )))
    }
}

/// The last lines of a console that name the agent: of systemd and cloud-init on Linux, of
/// EC2Launch and the agent itself on Windows.
fn agent_lines(console: &str) -> Vec<String> {
    let named = |line: &&str| {
        let line = line.to_lowercase();
        line.contains("amazon-ssm-agent") || line.contains("ssm agent")
    };
    let mut lines: Vec<String> = console
        .lines()
        .map(str::trim)
        .filter(named)
        .map(str::to_owned)
        .collect();
    let first = lines.len().saturating_sub(CONSOLE_LINES);
    lines.drain(..first);
    lines
}

type Decoder<'a, 'b> = aws_smithy_xml::decode::ScopedDecoder<'a, 'b>;
type XmlResult<T> = Result<T, aws_smithy_xml::decode::XmlDecodeError>;

/// Names and ARNs of the roles of an instance profile. The profile's own ARN stands outside of
/// `Roles`.
fn read_roles(
    parent: &mut Decoder<'_, '_>,
    names: &mut Vec<String>,
    arns: &mut Vec<String>,
) -> XmlResult<()> {
    while let Some(mut child) = parent.next_tag() {
        if child.start_el().matches("Roles") {
            while let Some(mut role) = child.next_tag() {
                while let Some(mut field) = role.next_tag() {
                    let into = match field.start_el().local() {
                        "RoleName" => &mut *names,
                        "Arn" => &mut *arns,
                        _ => continue,
                    };
                    into.push(aws_smithy_xml::decode::try_data(&mut field)?.into_owned());
                }
            }
        } else {
            read_roles(&mut child, names, arns)?;
        }
    }
    Ok(())
}

fn policy_names(root: &mut Decoder<'_, '_>) -> XmlResult<Vec<String>> {
    texts_of(root, "member", "PolicyName")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_agent_are_found_among_those_of_the_boot() {
        let console = "[    2.1] systemd[1]: Detected virtualization amazon.\r\n[  OK  ] Started amazon-ssm-agent.service - amazon-ssm-agent.\r\n2025/07/22 21:26:56Z: SSM: Amazon SSM Agent v3.3.2746.0\r\n";
        let lines = agent_lines(console);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with("v3.3.2746.0"));
        assert!(agent_lines("nothing of it").is_empty());
    }
}
