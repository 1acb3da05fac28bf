//! Sessions as the service knows them: ssm:DescribeSessions.

use aws_sdk_ssm::types::{Session, SessionFilter as SdkFilter, SessionFilterKey, SessionState};
use jiff::Timestamp;
use ops_ui::Result;

use crate::{
    aws::Aws,
    context::Context,
    inventory::{Listing, Pages},
};

/// Sessions of a page, the most that the service gives. Source: the service model.
const PAGE: i32 = 200;
/// Pages of one list of one region. History goes back 30 days.
const PAGES: usize = 500;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id: the name of who opened it, and letters and digits.
    pub id: String,
    /// Id of the server (`i-…`, `mi-…`), or `ecs:…` of a container.
    pub target: String,
    /// Where it is.
    pub region: String,
    /// ARN of the user or the role's session that opened it.
    pub owner: String,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// `Connected`, `Connecting`, `Disconnected`, `Terminated`, `Terminating`, `Failed`.
    pub status: String,
    /// The document that it was opened with.
    pub document: String,
    /// What was said why.
    pub reason: Option<String>,
}

impl SessionRecord {
    /// Its owner in short: what stands behind the last slash of the ARN, which is the user's name
    /// or the name of the role's session.
    pub fn owner_name(&self) -> &str {
        self.owner.rsplit('/').next().unwrap_or(&self.owner)
    }

    fn of(session: Session, region: &str) -> Option<Self> {
        let time = |at: Option<aws_smithy_types::DateTime>| {
            at.and_then(|at| Timestamp::from_second(at.secs()).ok())
        };
        Some(Self {
            id: session.session_id?,
            target: session.target.unwrap_or_default(),
            region: region.to_owned(),
            owner: session.owner.unwrap_or_default(),
            started: time(session.start_date),
            ended: time(session.end_date),
            status: session
                .status
                .map(|status| status.as_str().to_owned())
                .unwrap_or_default(),
            document: session.document_name.unwrap_or_default(),
            reason: session.reason.filter(|reason| !reason.is_empty()),
        })
    }
}

/// Which sessions are asked for. All conditions have to hold; the service checks them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionQuery {
    /// Those that have ended, in place of those that are open.
    pub history: bool,
    /// Not begun before.
    pub after: Option<Timestamp>,
    /// On this server, by its id.
    pub target: Option<String>,
    /// Of this ARN.
    pub owner: Option<String>,
    /// In this status.
    pub status: Option<String>,
    /// This one.
    pub id: Option<String>,
}

impl SessionQuery {
    fn filters(&self) -> Vec<SdkFilter> {
        let after = self
            .after
            .map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let pairs = [
            (SessionFilterKey::InvokedAfter, after),
            (SessionFilterKey::TargetId, self.target.clone()),
            (SessionFilterKey::Owner, self.owner.clone()),
            (SessionFilterKey::Status, self.status.clone()),
            (SessionFilterKey::SessionId, self.id.clone()),
        ];
        pairs
            .into_iter()
            .filter_map(|(key, value)| SdkFilter::builder().key(key).value(value?).build().ok())
            .collect()
    }
}

/// Sessions, and what their list lacks.
#[derive(Debug, Default)]
pub struct SessionListing {
    /// The latest first.
    pub sessions: Vec<SessionRecord>,
    /// The regions that could not be listed, and how many were asked.
    pub lacks: Listing,
}

impl Context {
    /// The sessions of `regions` that answer to `query`. A region that fails is reported in the
    /// listing, not as an error.
    ///
    /// # Errors
    /// What concerns every region alike: no credentials, an unusable configuration.
    pub async fn list_sessions(
        &self,
        query: &SessionQuery,
        regions: &[String],
    ) -> Result<SessionListing> {
        let aws = self.aws().await?;
        // Before the regions: each of them would report the same missing credentials.
        aws.credentials().await?;
        let lists = regions.iter().map(|region| of_region(aws, query, region));
        let lists = futures_util::future::join_all(lists).await;
        let mut listing = SessionListing::default();
        listing.lacks.regions = regions.len();
        for (region, list) in regions.iter().zip(lists) {
            match list {
                Ok(sessions) => listing.sessions.extend(sessions),
                Err(error) => listing.lacks.failures.push((region.clone(), error)),
            }
        }
        listing
            .sessions
            .sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.id.cmp(&b.id)));
        Ok(listing)
    }
}

async fn of_region(aws: &Aws, query: &SessionQuery, region: &str) -> Result<Vec<SessionRecord>> {
    let state = if query.history {
        SessionState::History
    } else {
        SessionState::Active
    };
    let filters = Some(query.filters()).filter(|filters| !filters.is_empty());
    let client = aws.clients(region).ssm;
    let mut sessions = Vec::new();
    let mut following = Pages::of("ssm:DescribeSessions", PAGES);
    let mut token = None;
    loop {
        let page = client
            .describe_sessions()
            .state(state.clone())
            .max_results(PAGE)
            .set_filters(filters.clone())
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| {
                aws.call("ssm:DescribeSessions", None, region)
                    .failed(format!("cannot list the sessions in `{region}`"), &error)
            })?;
        let rows = page.sessions.unwrap_or_default().into_iter();
        sessions.extend(rows.filter_map(|session| SessionRecord::of(session, region)));
        token = following.next(page.next_token)?;
        if token.is_none() {
            return Ok(sessions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_that_the_service_knows_goes_to_it() {
        let query = SessionQuery {
            history: true,
            after: "2026-01-31T12:00:00.5Z".parse().ok(),
            target: Some("i-0a1b2c3d4e5f60718".to_owned()),
            owner: Some("arn:aws:iam::111122223333:user/alice".to_owned()),
            status: Some("Terminated".to_owned()),
            id: Some("alice-0a1b2c3d4e5f60718".to_owned()),
        };
        let filters = query.filters();
        let pairs: Vec<(&str, &str)> = filters
            .iter()
            .map(|filter| (filter.key().as_str(), filter.value()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("InvokedAfter", "2026-01-31T12:00:00Z"),
                ("Target", "i-0a1b2c3d4e5f60718"),
                ("Owner", "arn:aws:iam::111122223333:user/alice"),
                ("Status", "Terminated"),
                ("SessionId", "alice-0a1b2c3d4e5f60718"),
            ]
        );
        assert!(SessionQuery::default().filters().is_empty());
    }
}
