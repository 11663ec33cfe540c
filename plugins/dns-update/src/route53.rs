//! Hosted zones of Route 53. A change of several records is one step, but there are no conditions: between reading and changing,
//! another writer is overwritten.

use std::time::Duration;

use aws::{Service, encoded, escaped, texts};
use serde::Deserialize;
use stagewright_sdk::{Error, ErrorCode, JsonSchema, Problem, Requirement, Result, clock, schemars};

use crate::change::{Change, Known};
use crate::note::{Note, Values, name_of};
use crate::record::Kind;

/// How long the servers of Route 53 may take to know of a change.
const SYNC: Duration = Duration::from_secs(300);

/// A hosted zone.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Zone {
    /// The zone's id, as in `Z0123456789ABCDEFGHIJ`.
    zone_id: String,
    /// The name of the credential that signs requests to Route 53. Its only origin is where they go.
    credential: String,
}

impl Zone {
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let fits = !self.zone_id.is_empty() && self.zone_id.chars().all(|c| c.is_ascii_alphanumeric());
        let problem = || {
            Problem::at("server.route53.zone-id", format!("`{}` isn't the id of a hosted zone", self.zone_id))
                .help("write it as in `Z0123456789ABCDEFGHIJ`, without `/hostedzone/`")
        };
        (!fits).then(problem).into_iter().collect()
    }

    pub(crate) fn requirements(&self) -> Vec<Requirement> {
        vec![Requirement::credential(&self.credential).because("signs requests to Route 53")]
    }

    pub(crate) fn known(&self, name: &str, kind: Kind) -> Result<Known> {
        let values = self.ask(name, kind.name())?;
        let texts = self.ask(&name_of(name, kind.name()), "TXT")?;
        let unquoted = |text: &String| text.split('"').skip(1).step_by(2).collect::<String>();
        let note = texts.data.iter().find_map(|text| Note::parse(&unquoted(text)));
        Ok(Known { values, note, texts: texts.data })
    }

    fn ask(&self, name: &str, kind: &str) -> Result<Values> {
        let service = Service::of_credential(&self.credential)?;
        let path =
            format!("/2013-04-01/hostedzone/{}/rrset?maxitems=1&name={}&type={kind}", self.zone_id, encoded(name));
        let page = service.send("ListResourceRecordSets", service.request("GET", &path))?.text()?;
        let set = ["ListResourceRecordSetsResponse", "ResourceRecordSets", "ResourceRecordSet"];
        let all = |path: &[&str]| texts(&page, &[&set[..], path].concat());
        let first = |path: &[&str]| Ok::<_, Error>(all(path)?.into_iter().next().unwrap_or_default());
        // The list begins at the name, and has the next one if there is no such record.
        if !first(&["Name"])?.eq_ignore_ascii_case(name) || first(&["Type"])? != kind {
            return Ok(Values::default());
        }
        let mut data = all(&["ResourceRecords", "ResourceRecord", "Value"])?;
        if kind == "CNAME" {
            data.iter_mut().for_each(|value| *value = format!("{}.", value.trim_end_matches('.').to_ascii_lowercase()));
        }
        data.sort();
        Ok(Values { data, ttl: first(&["TTL"])?.parse().unwrap_or_default() })
    }

    /// Changes the records and their notes, and waits until all servers of Route 53 know.
    pub(crate) fn update(&self, changes: &[Change]) -> Result<()> {
        let service = Service::of_credential(&self.credential)?;
        let mut request = service.request("POST", &format!("/2013-04-01/hostedzone/{}/rrset/", self.zone_id));
        request.header("content-type", "application/xml").body(batch(changes).as_bytes());
        let answer = service.send("ChangeResourceRecordSets", request)?.text()?;
        let id = texts(&answer, &["ChangeResourceRecordSetsResponse", "ChangeInfo", "Id"])?.into_iter().next();
        let id = id.ok_or_else(|| Error::internal("Route 53 answered without the change's id"))?;
        let path = format!("/2013-04-01/change/{}", id.rsplit('/').next().unwrap_or(&id));
        let deadline = clock::monotonic() + SYNC;
        loop {
            let answer = service.send("GetChange", service.request("GET", &path))?.text()?;
            let status = texts(&answer, &["GetChangeResponse", "ChangeInfo", "Status"])?.into_iter().next();
            if status.as_deref() == Some("INSYNC") {
                return Ok(());
            }
            if clock::monotonic() > deadline {
                let message = "the servers of Route 53 don't know of the change after 5 min";
                return Err(Error::new(ErrorCode::DeadlineExceeded, message));
            }
            clock::sleep(Duration::from_secs(2))?;
        }
    }
}

fn batch(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { name, kind, known, values, note } in changes {
        let kind = kind.name();
        match values.data.is_empty() {
            true if known.values.data.is_empty() => {}
            true => text.push_str(&change("DELETE", name, kind, &known.values)),
            false => text.push_str(&change("UPSERT", name, kind, values)),
        }
        let beside = Values { data: vec![note.data()], ttl: values.ttl.max(1) };
        text.push_str(&change("UPSERT", &name_of(name, kind), "TXT", &beside));
    }
    format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>{text}\
         </Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    )
}

fn change(action: &str, name: &str, kind: &str, values: &Values) -> String {
    let record = |value: &String| format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escaped(value));
    let records: String = values.data.iter().map(record).collect();
    format!(
        "<Change><Action>{action}</Action><ResourceRecordSet><Name>{}</Name><Type>{kind}</Type><TTL>{}</TTL>\
         <ResourceRecords>{records}</ResourceRecords></ResourceRecordSet></Change>",
        escaped(name),
        values.ttl
    )
}
