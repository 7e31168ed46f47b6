// Starts the language server that comes with hvdsl; everything but colours is its work.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = async () => {
  const [command, ...args] = workspace.getConfiguration("hv").get("command");
  client = new LanguageClient("hv", "HV", { command, args }, { documentSelector: [{ language: "hv" }] });
  await client.start();
};

exports.deactivate = () => client?.stop();
