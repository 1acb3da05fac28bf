//! Members of resource groups: resource-groups:ListGroupResources.

use std::collections::BTreeSet;

use ops_ui::{Error, ErrorKind, Result, hint};
use serde::{Deserialize, Serialize};

use crate::{
    aws::{
        Service,
        direct::{DirectAnswer, DirectCall, Input, Limits},
    },
    context::Context,
    inventory::Pages,
};

/// Where the operation is posted to, and most members of a page. Source: the service model of
/// Resource Groups.
const PATH: &str = "/list-group-resources";
const PAGE: u32 = 50;
/// Pages of one group: 100,000 members.
const PAGES: usize = 2_000;
/// The kinds of resources that can be servers, as CloudFormation names them.
const SERVER_TYPES: [&str; 2] = ["AWS::EC2::Instance", "AWS::SSM::ManagedInstance"];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    group: &'a str,
    max_results: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    resources: Vec<Member>,
    next_token: Option<String>,
    query_errors: Vec<QueryError>,
}

/// Why members of a group may be missing: its CloudFormation stack is gone, or is none that the
/// service may look into. The call succeeds all the same.
#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
struct QueryError {
    error_code: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Member {
    identifier: Identifier,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Identifier {
    resource_arn: String,
    resource_type: String,
}

impl Context {
    /// Ids of the EC2 instances and hybrid nodes that are members of the resource group `name` in
    /// `region`, whatever their state; `None` where the region has no such group. A reason for
    /// which members may be missing is told on stderr.
    ///
    /// # Errors
    /// A denial, with the IAM statement; no answer.
    pub async fn resource_group(
        &self,
        region: &str,
        name: &str,
    ) -> Result<Option<BTreeSet<String>>> {
        let aws = self.aws().await?;
        let mut ids = BTreeSet::new();
        let mut told: Vec<QueryError> = Vec::new();
        let mut following = Pages::of("resource-groups:ListGroupResources", PAGES);
        let mut token: Option<String> = None;
        loop {
            let body = serde_json::to_vec(&Request {
                group: name,
                max_results: PAGE,
                next_token: token.as_deref(),
            })
            .unwrap_or_default();
            let call = DirectCall {
                service: Service::ResourceGroups,
                region,
                input: Input::RestJson {
                    path: PATH,
                    body: &body,
                },
                limits: Limits::USUAL,
            };
            let answer = aws.ask(&call).await.and_then(DirectAnswer::json);
            let page: Page = match answer {
                Ok(page) => page,
                Err(failure) if failure.code() == Some("NotFoundException") => return Ok(None),
                Err(failure) => {
                    let resource = format!("resource group {name}");
                    let call =
                        aws.call("resource-groups:ListGroupResources", Some(resource), region);
                    let what = format!("cannot see the members of the resource group `{name}`");
                    return Err(failure.told(&call, what));
                }
            };
            ids.extend(page.resources.into_iter().filter_map(Member::server_id));
            for error in page.query_errors {
                // Each page of a group may say the same.
                if !told.contains(&error) {
                    self.output().warn_line(format!(
                        "members of the resource group {name} may be missing: {}: {}",
                        error.error_code, error.message
                    ));
                    told.push(error);
                }
            }
            token = match page.next_token.filter(|token| !token.is_empty()) {
                None => return Ok(Some(ids)),
                next => following.next(next)?,
            };
        }
    }

    /// The members of the resource group `name` in all regions that are asked about.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: no region has such a group. As [`Context::resource_group`].
    pub async fn members_of_group(&self, name: &str) -> Result<BTreeSet<String>> {
        let regions = self.regions().await?;
        let mut members: Option<BTreeSet<String>> = None;
        for region in &regions {
            if let Some(found) = self.resource_group(region, name).await? {
                members.get_or_insert_default().extend(found);
            }
        }
        members.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no resource group `{name}`"),
            )
            .caused_by(format!("looked in {}", regions.join(", ")))
            .hint(hint!(
                "see what groups there are: aws resource-groups list-groups --region {}",
                regions.first().map_or("REGION", String::as_str)
            ))
        })
    }
}

impl Member {
    /// The id of a server; `None` for any other resource. The last part of both kinds of ARN is
    /// the id: `…:instance/i-0a1b…`, `…:managed-instance/mi-0a1b…`.
    fn server_id(self) -> Option<String> {
        let Identifier {
            resource_arn,
            resource_type,
        } = self.identifier;
        let is_server = SERVER_TYPES.contains(&resource_type.as_str());
        let id = resource_arn.rsplit('/').next()?;
        (is_server && !id.is_empty()).then(|| id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_no_servers_are_left_out() {
        let page = r#"{"Resources":[
            {"Identifier":{"ResourceArn":"arn:aws:ec2:eu-west-1:123456789012:instance/i-0a1b2c3d4e5f60718","ResourceType":"AWS::EC2::Instance"}},
            {"Identifier":{"ResourceArn":"arn:aws:ssm:eu-west-1:123456789012:managed-instance/mi-0a1b2c3d4e5f60718","ResourceType":"AWS::SSM::ManagedInstance"},"Status":{"Name":"PENDING"}},
            {"Identifier":{"ResourceArn":"arn:aws:ec2:eu-west-1:123456789012:volume/vol-1","ResourceType":"AWS::EC2::Volume"}},
            {}],"ResourceIdentifiers":[],"QueryErrors":[]}"#;
        let page: Page = serde_json::from_str(page).expect("a page");
        let ids: Vec<String> = page
            .resources
            .into_iter()
            .filter_map(Member::server_id)
            .collect();
        assert_eq!(ids, ["i-0a1b2c3d4e5f60718", "mi-0a1b2c3d4e5f60718"]);
        assert_eq!(page.next_token, None);
    }
}
