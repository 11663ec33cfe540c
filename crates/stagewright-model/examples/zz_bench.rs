//! x
use std::fmt::Write;
fn main(){
 for n in [25_000usize, 50_000, 100_000] { for kind in 0..4 {
  let mut t=String::from("schema = 1\npipeline.name='x'\n");
  for i in 0..n { let need = if i==0 {String::new()} else {format!("needs=['s{}']\n", i-1)};
   let extra = match kind {1=>"if = \"inputs.v == 'x' && success()\"\n".to_string(), 2=>"with = { a = \"${{ inputs.v }}\" }\n".to_string(), 3 => if i>0 {"if = \"stages.s0.result == 'x'\"\n".into()} else {String::new()}, _=>String::new()};
   writeln!(t,"[stages.s{i}]\nuses='noop'\n{need}{extra}").unwrap(); }
  t.push_str("[inputs.v]\n");
  let p = ["noop"].into_iter().collect();
  let s=std::time::Instant::now();
  let r=stagewright_model::Plan::parse("x",&t,&p).is_ok();
  eprintln!("{n} kind {kind} {r} {:?}", s.elapsed());
 }}
}
