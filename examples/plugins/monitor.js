// A plugin of Sandlot in Node.js: prints what is run and reached, and refuses `shutdown`.
// Run it with Sandbox.create(..., plugin_processes=["node examples/plugins/monitor.js"]).
const lines = require("node:readline").createInterface({ input: process.stdin });
const send = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

const hooks = {
  on_exec({ argv, env, sandbox }) {
    console.error(`${sandbox}: ${argv.join(" ")}`);
    if (argv.some((word) => word.includes("shutdown"))) return { refuse: "this stays on" };
    return { change: { env: { ...env, MONITORED: "1" } } };
  },
  on_connect({ flow, decision }) {
    console.error(`${flow.name ?? flow.address}:${flow.port} allowed=${decision.allowed}`);
    return {};
  },
};

lines.on("line", (line) => {
  const said = JSON.parse(line);
  if (said.hello) {
    send({ protocol: 1, name: "monitor", version: "1.0", hooks: Object.keys(hooks) });
    return;
  }
  try {
    send({ id: said.id, ...hooks[said.hook](said.context) });
  } catch (error) {
    send({ id: said.id, error: String(error) });
  }
});
