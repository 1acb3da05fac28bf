//! EC2 Instance Connect: a public key that an instance accepts for a minute.

use ops_profile::{Instance, Kind};
use ops_ui::{Error, Result, hint};

use crate::{BoxFuture, context::Context, iam};

impl Context {
    /// Makes `instance` accept `public_key` (one line in OpenSSH's form) for `user` for the next 60
    /// seconds (SendSSHPublicKey).
    ///
    /// # Errors
    /// A hybrid node; a denial, which names `ec2-instance-connect:SendSSHPublicKey`; an instance
    /// that does not support it.
    pub fn send_ssh_public_key<'a>(
        &'a self,
        instance: &'a Instance,
        user: &'a str,
        public_key: &'a str,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.send_ssh_public_key_unboxed(instance, user, public_key))
    }

    async fn send_ssh_public_key_unboxed(
        &self,
        instance: &Instance,
        user: &str,
        public_key: &str,
    ) -> Result<()> {
        let what = || format!("cannot send a key for `{user}` to `{}`", instance.label());
        if instance.kind == Kind::Hybrid {
            return Err(Error::target(what())
                .caused_by("EC2 Instance Connect knows EC2 instances only, not hybrid nodes")
                .hint("use a key of your own: ops ssh -i FILE …"));
        }
        self.check_account().await?;
        let aws = self.aws().await?;
        aws.credentials().await?;
        let answer = aws
            .clients(&instance.region)
            .instance_connect
            .send_ssh_public_key()
            .instance_id(&instance.id)
            .instance_os_user(user)
            .ssh_public_key(public_key)
            .set_availability_zone(instance.zone.clone())
            .send()
            .await
            .map_err(|error| {
                let resource = iam::instance_arn(instance, "*");
                aws.call(
                    "ec2-instance-connect:SendSSHPublicKey",
                    Some(resource),
                    &instance.region,
                )
                .failed(what(), &error)
                .hint(hint!(
                    "use a key of your own: ops ssh -i FILE {}",
                    instance.target_word()
                ))
            })?;
        if answer.success() {
            Ok(())
        } else {
            Err(Error::target(what()).caused_by("EC2 Instance Connect did not accept the key"))
        }
    }
}
