// The CNI plugin's process. Standard output is the result and nothing else. It imports little: it runs once per pod and verb.
import { callAgent } from './agent-client.ts';
import { runPlugin } from './plugin.ts';

const MAX_INPUT = 1 << 20;

async function readStdin(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) {
    text += String(chunk);
    if (text.length > MAX_INPUT) throw new Error(`more than ${MAX_INPUT} bytes on standard input`);
  }
  return text;
}

const { stdout, exitCode } = await runPlugin({
  env: (name) => process.env[name],
  stdin: readStdin,
  callAgent,
  note: (line) => process.stderr.write(`${line}\n`),
});
process.stdout.write(stdout);
process.exitCode = exitCode;
