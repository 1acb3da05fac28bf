//! The user that an image of AWS is made with.

use ops_core::{BoxFuture, Context};
use ops_profile::{Instance, Kind};

/// The name of a platform, as Systems Manager tells it in `PlatformName`, begins with the first
/// word; the user is the second. Source: "Default user names for Linux AMIs" in the EC2 user guide.
const USERS: [(&str, &str); 11] = [
    ("amazon linux", "ec2-user"),
    ("ubuntu", "ubuntu"),
    ("debian", "admin"),
    ("red hat", "ec2-user"),
    ("centos", "centos"),
    ("rocky", "rocky"),
    ("alma", "ec2-user"),
    ("fedora", "fedora"),
    ("suse", "ec2-user"),
    ("sles", "ec2-user"),
    ("macos", "ec2-user"),
];

/// Where nothing is known of an image: the user of Amazon's own, and of most others.
pub const USUAL: &str = "ec2-user";

/// The user that images of `platform` (`Ubuntu 22.04`) are made with; `None` where nobody knows.
pub fn of_platform(platform: &str) -> Option<&'static str> {
    let platform = platform.to_ascii_lowercase();
    USERS
        .iter()
        .find(|(begin, _)| platform.starts_with(begin))
        .map(|(_, user)| *user)
}

/// The user that the image of `instance` is made with, as far as Systems Manager tells the
/// platform, which it is asked for. `None` for a hybrid node, which has no image of AWS.
pub fn of_instance<'a>(
    cx: &'a Context,
    instance: &'a Instance,
) -> BoxFuture<'a, Option<&'static str>> {
    Box::pin(of_instance_unboxed(cx, instance))
}

async fn of_instance_unboxed(cx: &Context, instance: &Instance) -> Option<&'static str> {
    if instance.kind == Kind::Hybrid {
        return None;
    }
    // What EC2 tells of a platform, `Linux/UNIX`, says nothing of the image.
    if let Some(user) = instance.platform.as_deref().and_then(of_platform) {
        return Some(user);
    }
    let known = cx.with_agent(instance).await?;
    of_platform(known.platform.as_deref()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_the_user_of_its_image() {
        for (platform, user) in [
            ("Amazon Linux 2023", Some("ec2-user")),
            ("Ubuntu 22.04", Some("ubuntu")),
            ("Debian GNU/Linux 12", Some("admin")),
            ("Red Hat Enterprise Linux 9.4", Some("ec2-user")),
            ("SLES 15.5", Some("ec2-user")),
            ("Linux/UNIX", None),
            ("Microsoft Windows Server 2022 Datacenter", None),
        ] {
            assert_eq!(of_platform(platform), user, "{platform}");
        }
    }
}
