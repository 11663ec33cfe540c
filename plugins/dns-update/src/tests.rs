use serde_json::{Value as Json, json};
use stagewright_sdk::fake::{FakeHost, HttpScript, ProcessScript, Report};
use stagewright_sdk::{Observation, Outcome};

use crate::DnsUpdate;

fn host(more: &Json) -> FakeHost {
    let mut with = json!({
        "server": { "rfc2136": { "host": "ns1", "zone": "example.org", "key": { "name": "deploy", "secret": "key" } } },
        "records": [{ "name": "WWW.example.org", "type": "A", "values": ["192.0.2.9"] }],
    });
    with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    FakeHost::new().config(with).environment("production").fence(7).secret("key", "c2VjcmV0")
}

fn dig(lines: &str) -> ProcessScript {
    ProcessScript::new("dig", ["@ns1"])
        .stdout(format!(";; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1\n{lines}"))
}

const OLD: &str = "www.example.org.\t300\tIN\tA\t192.0.2.2\nwww.example.org.\t300\tIN\tA\t192.0.2.1\n";
const OWN: &str = "www.example.org. 60 IN A 192.0.2.9\n";

fn note(token: u32, run: &str) -> String {
    format!(
        "_stagewright-a.www.example.org. 60 IN TXT \"stagewright token={token} run={run} ttl=300\" \" before=192.0.2.1\"\n"
    )
}

fn updates() -> ProcessScript {
    ProcessScript::new("nsupdate", ["-v", "-t", "30"])
}

fn script<T>(report: &Report<T>) -> String {
    String::from_utf8_lossy(&report.spawned.last().unwrap().stdin).into_owned()
}

#[test]
fn the_server_changes_what_was_read_and_nothing_else() {
    let report = host(&json!({})).process(dig(OLD)).process(dig("")).process(updates()).run::<DnsUpdate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    assert_eq!(
        script(&report),
        "server ns1 53\nzone example.org\nkey hmac-sha256:deploy {secret key}\n\
         prereq yxrrset www.example.org. A 192.0.2.1\n\
         prereq yxrrset www.example.org. A 192.0.2.2\n\
         prereq nxrrset _stagewright-a.www.example.org. TXT\n\
         update delete www.example.org. A\n\
         update add www.example.org. 60 A 192.0.2.9\n\
         update delete _stagewright-a.www.example.org. TXT\n\
         update add _stagewright-a.www.example.org. 60 TXT \"stagewright token=7 run=run-1 ttl=300 before=192.0.2.1 \
         before=192.0.2.2\"\nsend\n"
    );
    assert_eq!(report.outputs["before"], json!({ "www.example.org. A": ["192.0.2.1", "192.0.2.2"] }));
    assert_eq!(report.outputs["lifetime-s"], 300);
    assert!(report.spawned[0].read_only && !report.spawned[2].read_only);
}

#[test]
fn waiting_takes_as_long_as_the_values_before_may_be_used() {
    let host = host(&json!({ "wait": true })).process(dig(OLD)).process(dig("")).process(updates());
    let report = host.run::<DnsUpdate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded));
    assert!(report.logged("waiting 300 s"), "{report:#?}");
}

#[test]
fn a_newer_run_is_not_overwritten() {
    let report = host(&json!({})).process(dig(OWN)).process(dig(&note(8, "other"))).run::<DnsUpdate>();
    let error = report.result.as_ref().unwrap_err();
    assert!(error.message.contains("the newer run other has changed www.example.org."), "{error:?}");
    assert_eq!(report.spawned.len(), 2);
}

#[test]
fn an_interrupted_update_is_recognised_and_what_was_before_stays_known() {
    let observe =
        |values: &str, text: &str| host(&json!({})).process(dig(values)).process(dig(text)).observe::<DnsUpdate>();
    let own = observe(OWN, &note(7, "run-1"));
    assert!(matches!(own.result, Ok(Observation::Applied(_))), "{:?}", own.result);
    assert_eq!(own.outputs["before"], json!({ "www.example.org. A": ["192.0.2.1"] }));
    for (values, text) in [(OLD, String::new()), (OWN, String::new()), (OWN, note(6, "other")), (OLD, note(7, "run-1"))]
    {
        assert_eq!(observe(values, &text).result, Ok(Observation::NotStarted), "{values} {text}");
    }
    let again =
        host(&json!({})).process(dig(OWN)).process(dig(&note(7, "run-1"))).process(updates()).run::<DnsUpdate>();
    assert!(script(&again).contains("ttl=300 before=192.0.2.1\""), "{}", script(&again));
}

#[test]
fn undoing_brings_back_what_was_before_the_run_if_it_is_still_there() {
    let undo =
        host(&json!({})).process(dig(OWN)).process(dig(&note(7, "run-1"))).process(updates()).undo::<DnsUpdate>();
    assert_eq!(undo.result, Ok(()));
    let script = script(&undo);
    assert!(script.contains("update add www.example.org. 300 A 192.0.2.1\n"), "{script}");
    assert!(script.contains("run=run-1-undone"), "{script}");
    let others = host(&json!({})).process(dig(OLD)).process(dig("")).undo::<DnsUpdate>();
    assert_eq!((others.result, others.spawned.len()), (Ok(()), 2));
}

#[test]
fn refusals_say_what_to_do() {
    for (said, help) in [
        ("update failed: YXRRSET", "run the stage again"),
        ("; TSIG error with server: tsig indicates error\nupdate failed: NOTAUTH(BADSIG)", "check `key.name`"),
        ("update failed: REFUSED", "allow the key"),
    ] {
        let update = updates().exit(2).stderr(format!("{said}\n"));
        let report = host(&json!({})).process(dig(OLD)).process(dig("")).process(update).run::<DnsUpdate>();
        let error = report.result.as_ref().unwrap_err();
        assert!(error.help.as_ref().unwrap().contains(help), "{error:?}");
    }
    let down = ProcessScript::new("dig", ["@ns1"]).exit(9).stdout(";; no servers could be reached\n");
    let error = host(&json!({})).process(down).run::<DnsUpdate>().result.unwrap_err();
    assert!(error.is_retryable() && error.causes == ["no servers could be reached"], "{error:?}");
    let refused = ProcessScript::new("dig", ["@ns1"]).stdout(";; ->>HEADER<<- opcode: QUERY, status: REFUSED, id: 1\n");
    let error = host(&json!({})).process(refused).run::<DnsUpdate>().result.unwrap_err();
    assert!(error.causes[0].contains("status REFUSED"), "{error:?}");
}

#[test]
fn route_53_changes_all_records_in_one_step() {
    let with = json!({ "server": { "route53": { "zone-id": "Z1", "credential": "dns" } } });
    let list = |name: &str, kind: &str| {
        format!("http://r53/2013-04-01/hostedzone/Z1/rrset?maxitems=1&name={name}&type={kind}")
    };
    let sets = |sets: &str| {
        format!(
            "<ListResourceRecordSetsResponse><ResourceRecordSets>{sets}</ResourceRecordSets></ListResourceRecordSetsResponse>"
        )
    };
    let old = "<ResourceRecordSet><Name>www.example.org.</Name><Type>A</Type><TTL>300</TTL><ResourceRecords><ResourceRecord>\
               <Value>192.0.2.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>";
    let next = "<ResourceRecordSet><Name>zzz.example.org.</Name><Type>A</Type><TTL>1</TTL></ResourceRecordSet>";
    let info = |root: &str, status: &str| {
        format!("<{root}><ChangeInfo><Id>/change/C1</Id><Status>{status}</Status></ChangeInfo></{root}>")
    };
    let report = host(&with)
        .credential("dns", "http://r53")
        .http(HttpScript::get(&list("www.example.org.", "A")).body(sets(old)))
        .http(HttpScript::get(&list("_stagewright-a.www.example.org.", "TXT")).body(sets(next)))
        .http(
            HttpScript::post("http://r53/2013-04-01/hostedzone/Z1/rrset/")
                .body(info("ChangeResourceRecordSetsResponse", "PENDING")),
        )
        .http(HttpScript::get("http://r53/2013-04-01/change/C1").body(info("GetChangeResponse", "PENDING")))
        .http(HttpScript::get("http://r53/2013-04-01/change/C1").body(info("GetChangeResponse", "INSYNC")))
        .run::<DnsUpdate>();
    assert_eq!(report.result, Ok(Outcome::Succeeded), "{report:#?}");
    let body = String::from_utf8_lossy(&report.sent[2].body).into_owned();
    assert!(
        body.contains(
            "<Action>UPSERT</Action><ResourceRecordSet><Name>www.example.org.</Name><Type>A</Type><TTL>60</TTL>"
        ),
        "{body}"
    );
    assert!(body.contains("stagewright token=7 run=run-1 ttl=300 before=192.0.2.1"), "{body}");
    assert_eq!(report.outputs["before"], json!({ "www.example.org. A": ["192.0.2.1"] }));
}

#[test]
fn mistakes_are_named_with_their_keys() {
    let record = |more: Json| {
        let mut record = json!({ "name": "a.example.org", "type": "A", "values": ["192.0.2.1"] });
        record.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        record
    };
    for (more, key) in [
        (json!({ "records": [] }), "records"),
        (json!({ "records": [record(json!({ "name": "a b" }))] }), "records[0].name"),
        (json!({ "records": [record(json!({ "values": ["1.2.3"] }))] }), "records[0].values[0]"),
        (json!({ "records": [record(json!({ "values": [] }))] }), "records[0].values"),
        (json!({ "records": [record(json!({ "type": "CNAME", "values": ["a.org", "b.org"] }))] }), "records[0].values"),
        (json!({ "records": [record(json!({})), record(json!({ "name": "A.example.org." }))] }), "records[1]"),
        (
            json!({ "server": { "route53": { "zone-id": "/hostedzone/Z1", "credential": "c" } } }),
            "server.route53.zone-id",
        ),
    ] {
        let found = host(&more).validate::<DnsUpdate>();
        assert_eq!(found.iter().map(|problem| problem.key.as_deref()).collect::<Vec<_>>(), [Some(key)], "{more}");
    }
}

#[test]
fn no_name_of_the_configuration_adds_a_line_to_the_update() {
    let server = |host: &str, zone: &str, key: &str| {
        let key = json!({ "name": key, "secret": "key" });
        let with = json!({ "server": { "rfc2136": { "host": host, "zone": zone, "key": key } } });
        self::host(&with).validate::<DnsUpdate>().into_iter().filter_map(|problem| problem.key).collect::<Vec<_>>()
    };
    let more = "a:\nupdate delete www.example.org.";
    assert_eq!(server(more, "b", "c"), ["server.rfc2136.host"]);
    assert_eq!(server("a", more, "c"), ["server.rfc2136.zone"]);
    assert_eq!(server("a", "b", more), ["server.rfc2136.key.name"]);
    assert_eq!(server("2001:db8::1", "b", "c"), [""; 0]);
}
