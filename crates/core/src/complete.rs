//! What the values of an argument can be completed to, for [`crate::Command::COMPLETES`].

/// A kind of values that completion knows.
///
/// Values of enumerations and paths (`clap::ValueHint`) need none: they are completed as clap
/// describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// A server: names and ids of the running instances that the profile selects, host aliases,
    /// `tag:Key=Value`; `USER@` may stand before it.
    Target,
    /// A path here, or `TARGET:` before a path there.
    RemotePath,
    /// The words of `forward`: a target, or names of the profile's forwards.
    ForwardWord,
    /// A group of the profile's forwards.
    ForwardGroup,
    /// The words of `logs`: a target, or names under `logs` of the profile.
    LogWord,
    /// The id of an open session, or a server as [`Self::Target`].
    Session,
    /// A condition on a tag, `KEY=VALUE`.
    TagFilter,
    /// The key of a tag.
    TagKey,
    /// A region.
    Region,
    /// A team profile or an AWS profile.
    Profile,
    /// A profile of the AWS configuration.
    AwsProfile,
    /// A team profile.
    TeamProfile,
    /// An external command.
    ExternalCommand,
    /// These words.
    Words(&'static [&'static str]),
}
