//! What a rehearsal sends, observed by its system calls and by the packets on a separate network.

use super::everything;
use crate::environment::{Ended, TestEnvironment, binary};

/// Runs its arguments in a network namespace whose default route leads to an interface without a peer that responds, and
/// captures the packets sent there. IPv6 has no address in it, because the kernel would send router solicitations.
const ON_A_WIRE: &str = r#"
set -eu
echo nameserver 198.51.100.53 > "$0.resolv"
mount --bind "$0.resolv" /etc/resolv.conf
ip link set lo up
ip link add wire type veth peer name end
for device in wire end; do
  ip link set "$device" addrgenmode none
  ip link set "$device" up
done
# The kernel drops packets until it has noticed that both ends are up.
until ip link show wire | grep -q "state UP"; do sleep 0.05; done
ip address add 192.0.2.1/24 dev wire
ip neighbour add 192.0.2.254 lladdr 02:00:00:00:00:01 dev wire
ip route add default via 192.0.2.254
python3 -u -c "$CAPTURE" > "$0" 2> "$0.log" &
capture=$!
until grep -q listening "$0"; do
  kill -0 "$capture" || { cat "$0.log" >&2; exit 99; }
  sleep 0.05
done
code=0
"$@" || code=$?
kill "$capture"
wait "$capture" || true
exit "$code"
"#;

/// Prints the destination of each packet, address and port, and the text in its payload.
const CAPTURE: &str = r#"
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wire.bind(("wire", 0))
print("listening")
while True:
    packet, (_, protocol, *_) = wire.recvfrom(65536)
    if protocol != 0x0800:
        print(hex(protocol), packet.hex())
        continue
    header = (packet[0] & 15) * 4
    port = int.from_bytes(packet[header + 2 : header + 4], "big")
    text = "".join(chr(byte) if 32 < byte < 127 else "." for byte in packet[header:])
    print(socket.inet_ntoa(packet[16:20]), port, text)
"#;

/// Runs the binary in this network. Returns its result, and a line for each packet.
fn on_a_wire(environment: &TestEnvironment, args: &[&str]) -> (Ended, Vec<String>) {
    let packets = environment.root().with_file_name("packets");
    let mut inside = environment.program("unshare");
    inside.args(["--map-root-user", "--net", "--mount", "sh", "-c", ON_A_WIRE]).env("CAPTURE", CAPTURE);
    let ended = Ended::of(&inside.arg(&packets).arg(binary()).args(args).output().expect("unshare starts"));
    let captured = std::fs::read_to_string(packets).unwrap_or_default();
    let captured = captured.strip_prefix("listening\n").unwrap_or_else(|| panic!("no capture: {}", ended.stderr));
    (ended, captured.lines().map(str::to_owned).collect())
}

#[test]
fn on_the_wire_there_is_not_a_packet_of_a_rehearsal() {
    let (environment, ..) = everything();
    let (ended, packets) = on_a_wire(&environment, &["run", "--rehearse"]);
    ended.exits(0);
    assert_eq!(packets, Vec::<String>::new());
    // Check that the capture works: outside a rehearsal there are packets.
    environment.write(
        "stagewright.toml",
        r#"
        schema = 1
        pipeline.name = "real"
        [stages.post]
        uses = "notify"
        timeout = "2s"
        with = { url = "http://198.51.100.9/deploy", message = "m" }
        permissions = { net = ["http://198.51.100.9"] }
        "#,
    );
    let (ended, packets) = on_a_wire(&environment, &["run"]);
    assert_ne!(ended.code, 0, "{}", ended.stdout);
    assert!(packets.iter().any(|packet| packet.starts_with("198.51.100.9 80 ")), "{packets:?} {}", ended.stdout);
}

const FETCHING: &str = r#"
schema = 1
pipeline.name = "fetching"
[stages.plugin]
uses = "notify"
with = { url = "https://index.crates.io/config.json", method = "GET", message = "m" }
permissions = { net = ["cargo"] }
timeout = "10s"
[stages.program]
uses = "command"
with = { run = "echo door=${HTTPS_PROXY:+open} > door" }
permissions = { process = ["sh"], write = ["."], net = ["cargo"] }
[stages.granted]
uses = "command"
with = { run = "echo started > started" }
permissions = { process = ["sh"], write = ["."], net = ["https://api.example.org"] }
[stages.granted.rehearse]
permissions = { net = ["https://api.example.org"] }
"#;

#[test]
fn offline_closes_what_a_rehearsal_leaves_open() {
    let environment = TestEnvironment::with_pipeline(FETCHING);
    let (ended, packets) = on_a_wire(&environment, &["run", "--rehearse", "--offline"]);
    let ended = ended.exits(0);
    assert_eq!(packets, Vec::<String>::new(), "{}", ended.stdout);
    assert!(!environment.root().join("started").exists(), "{}", ended.stdout);
    assert_eq!(environment.read("door"), "door=\n");
    // Without `--offline` the same hosts are contacted.
    let (ended, packets) = on_a_wire(&environment, &["run", "--rehearse"]);
    assert!(packets.iter().any(|packet| packet.contains(".index.crates.io.")), "{packets:?} {}", ended.stdout);
    assert!(environment.root().join("started").exists(), "{}", ended.stdout);
    assert_eq!(environment.read("door"), "door=open\n");
}

/// The addresses outside loopback that a trace has connections or datagrams to.
fn beyond_loopback(trace: &str) -> Vec<&str> {
    let reaches =
        trace.lines().filter(|line| ["connect(", "sendto(", "sendmsg("].iter().any(|call| line.contains(call)));
    let inet = reaches.filter(|line| line.contains("AF_INET"));
    inet.filter(|line| !line.contains("inet_addr(\"127.") && !line.contains("\"::1\"")).collect()
}

#[test]
fn not_a_packet_of_a_rehearsal_is_for_anything_but_loopback() {
    let (environment, witness, _on_socket) = everything();
    let trace = environment.root().parent().expect("a folder").join("trace");
    let mut strace = environment.program("strace");
    strace.args(["-f", "-qq", "-e", "trace=network", "-o"]).arg(&trace).arg(binary()).args(["run", "--rehearse"]);
    let ended = Ended::of(&strace.output().expect("strace starts: apt-get install strace")).exits(0);
    let trace = std::fs::read_to_string(trace).expect("a trace");
    assert!(trace.contains("connect("), "the trace is empty: {}", ended.stderr);
    assert_eq!(beyond_loopback(&trace), Vec::<&str>::new());
    witness.assert_not_contacted();
    // The summary lists each stage.
    let line = |stage: &str| ended.stdout.lines().find(|line| line.contains(&format!(" {stage} "))).unwrap_or_default();
    let rows = ended.stdout.split("stage ").last().unwrap_or_default();
    for (stage, fidelity) in [("local", "real"), ("deploy", "stand-in"), ("program", "rehearsed")] {
        let row = rows.lines().find(|row| row.contains(&format!(" {stage} "))).unwrap_or_else(|| line(stage));
        assert!(row.contains(fidelity), "{row}\n{}", ended.stdout);
    }
}
