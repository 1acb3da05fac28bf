//! `ops pick`: one server, chosen on the terminal.

use ops_core::{Command, Context, Forms, Traits, Values, inventory::TagFilter};
use ops_profile::Target;
use ops_ui::{Error, ErrorKind, Exit, Result};

use crate::{describe, paths};

/// Choose a server on the terminal, and print it
///
/// The list is drawn on the terminal and the choice is printed, so that other programs can use it.
/// It is the id, which every verb takes and no second instance has, or a document with -o json and
/// the like. Typing searches names, ids, addresses and tags; servers that were used last come first
/// (see `ops recent`); Ctrl-T shows the tags of one. Without a terminal nobody can choose: see
/// `ops ls -o name`.
#[derive(clap::Args, Debug)]
pub(crate) struct Pick {
    /// Ids, names, globs such as 'web-*', addresses or tag:Key=Value
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Target>,
    // The brackets are those of a help page, and no link.
    #[allow(rustdoc::broken_intra_doc_links)]
    /// Condition on a tag: Key=GLOB[,GLOB] or Key!=GLOB
    #[arg(short = 'l', long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<TagFilter>,
    /// Several, marked with Tab, a line for each
    #[arg(short = 'm', long)]
    multi: bool,
}

impl Command for Pick {
    const NAME: &'static str = "pick";
    const TRAITS: Traits = Traits {
        forms: Forms::Rows,
        ..Traits::NONE
    };
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("ssh $(ops pick)", "plain ssh to the one that is chosen"),
        ("ops pick --tag Team=web -o json", "all that is known of it"),
        (
            "ops pick --multi | xargs -I{} ops cp app.conf {}:/etc/app/",
            "a command for each of several",
        ),
    ];

    const COMPLETES: &'static [(&'static str, Values)] =
        &[("patterns", Values::Target), ("tags", Values::TagFilter)];

    async fn run(self, cx: Context) -> Result<Exit> {
        paths::check(cx.output().format())?;
        if !cx.output().may_ask() {
            return Err(
                Error::new(ErrorKind::Refused, "nobody is there to choose a server")
                    .caused_by(
                        "standard input and standard error are no terminal, or asking is forbidden",
                    )
                    .hint("list them: ops ls -o name"),
            );
        }
        let question = if self.multi {
            "which servers?"
        } else {
            "which server?"
        };
        let chosen = cx
            .pick_among(&self.patterns, &self.tags, question, self.multi)
            .await?;
        describe::write_pages(&cx, chosen)?;
        Ok(Exit::SUCCESS)
    }
}
