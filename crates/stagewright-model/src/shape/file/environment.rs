//! `[environments]`: where stages deploy to.

use super::{PATH, TEXT, closed, count, key, open, required, texts, with_default};
use crate::range;
use crate::shape::{Format, NameRule, OtherKeys, Shape, Table};

pub(super) static ENVIRONMENTS: Table =
    open(&OtherKeys { what: "an environment", rule: NameRule::Stage, shape: Shape::Table(&ENVIRONMENT) });

static ENVIRONMENT: Table = closed(&[
    key(
        "target",
        Shape::Text(Format::Target),
        "Kind of target: stages with `uses = \"deploy\"` use the built-in plugin `deploy-TARGET`, or the plugin of `path:` or \
         `oci:`.",
    ),
    key("url", TEXT, "URL for users of the environment."),
    key(
        "config",
        texts(&PATH),
        "Configuration files, of which later ones override earlier ones: `environments.NAME.config` in expressions.",
    ),
    key(
        "approvers",
        texts(&Shape::Text(Format::Approver)),
        "Users, and teams as `team:NAME`, who may approve deploys; without any, deploys need no approval.",
    ),
    with_default("protected", "false", Shape::Boolean, "Whether deploys must name an image by digest."),
    key("freeze", Shape::List(&Shape::Table(&FREEZE)), "Times without deploys."),
    key(
        "regions",
        Shape::Table(&REGIONS),
        "The regions of the environment: its stages run once for each of them, in the order of the file.",
    ),
    key("waves", Shape::Table(&WAVES), "How the regions follow each other; by default one after the other."),
]);

static REGIONS: Table = open(&OtherKeys { what: "a region", rule: NameRule::Stage, shape: Shape::Table(&REGION) });

static REGION: Table = closed(&[
    key("url", TEXT, "URL for users of the region, instead of the environment's."),
    key(
        "credentials",
        texts(&Shape::Text(Format::Name)),
        "Credentials that only this region's stages may use, of those that their permissions name.",
    ),
    key("freeze", Shape::List(&Shape::Table(&FREEZE)), "Times without deploys to this region."),
    key(
        "values",
        Shape::Table(&VALUES),
        "Values of the region, available as `region.NAME` in expressions of its stages.",
    ),
]);

static VALUES: Table = open(&OtherKeys { what: "a value", rule: NameRule::Name, shape: Shape::Anything });

static WAVES: Table = closed(&[
    key(
        "serial",
        texts(&Shape::Either(&[count(range::REGIONS), Shape::Text(Format::Percentage)])),
        "How many regions the waves have, as numbers or in percent of all regions; the last entry counts for all further \
         waves. Default: one region at a time.",
    ),
    key(
        "pause",
        Shape::Table(&PAUSE),
        "What happens after each wave but the last. Default: the next one follows when all stages of this one have \
         succeeded.",
    ),
    with_default(
        "on-failure",
        "\"undo\"",
        Shape::Text(Format::Choice(&["undo", "stop"])),
        "What a failed wave means for the regions before it: they get the earlier release back (`undo`), or keep the new \
         one (`stop`).",
    ),
]);

static PAUSE: Table = closed(&[key(
    "duration",
    Shape::Text(Format::Duration(range::POLL)),
    "How long to wait, as in `1h`. Without it, the run waits for a person to approve.",
)]);

static FREEZE: Table = closed(&[
    key("from", Shape::Moment, "Start of the freeze, with an offset: `2026-12-18T16:00:00Z`."),
    key("until", Shape::Moment, "End of the freeze, with an offset."),
    key("weekly", Shape::Text(Format::Weekly), "Start and end of a freeze in every week: `Fri 16:00 - Mon 08:00`."),
    with_default(
        "time-zone",
        "\"UTC\"",
        Shape::Text(Format::TimeZone),
        "Time zone of `weekly`, as in `Europe/Berlin`.",
    ),
    required("reason", TEXT, "Why there are no deploys; shown to users whose deploys have to wait."),
]);
