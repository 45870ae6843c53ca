// Rows for people: a table and a picture. Pure.
import { formatTable } from '../cli/output.ts';
import type { Row } from './path/rows.ts';

export function formatRows(rows: readonly Row[]): string {
  const table = formatTable(rows, [
    { title: 'ROW', value: (row) => row.name },
    { title: 'VALUE', value: (row) => (row.value === null ? '-' : shortNumber(row.value)) },
    { title: 'UNIT', value: (row) => row.unit },
    { title: 'PEER', value: (row) => (row.peer === undefined ? '-' : `${row.peer} ${shortNumber(row.peerValue ?? 0)}`) },
    {
      title: 'RATIO',
      value: (row) => (row.peerValue === undefined || row.value === null ? '-' : (row.value / row.peerValue).toFixed(2)),
    },
    { title: 'BAR', value: (row) => row.bar },
    { title: 'OK', value: (row) => (row.ok ? 'yes' : 'NO') },
    { title: 'LIMIT', value: ({ limit }) => limit.split(': ', 1)[0] ?? limit },
  ]);
  const notes = rows.flatMap(({ name, on }) => (on === undefined ? [] : `  ${name}: ${on}`));
  const noted = notes.length === 0 ? [] : ['', 'on in both:', ...notes];
  const short = rows.filter(({ ok }) => !ok);
  if (short.length === 0) return [table, ...noted, '', `${rows.length} rows, all at their bar`].join('\n');
  const limits = short.map(({ name, limit, error }) => `  ${name}: ${error === undefined ? limit : `not measured: ${error}`}`);
  return [table, ...noted, '', `${rows.length} rows, ${short.length} short of their bar; what limits them:`, ...limits].join(
    '\n',
  );
}

export function shortNumber(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toString();
  return Number(value.toPrecision(3)).toString();
}

const WIDTH = 820;
const STEP = 24;
const TOP = 44;
const LEFT = 300;
const SCALE = 360;
const COLOURS = { ok: '#0b7285', short: '#c92a2a', peer: '#adb5bd' };

/** Bars per row: ours, and the peer's beside it, each row on a scale of its own. */
export function rowsSvg(rows: readonly Row[], title: string): string {
  const height = TOP + rows.length * STEP + 16;
  const lines = rows.map((row, index) => {
    const y = TOP + index * STEP;
    const most = Math.max(row.value ?? 0, row.peerValue ?? 0, Number.MIN_VALUE);
    const bar = (value: number, top: number, colour: string): string =>
      `<rect x="${LEFT}" y="${y + top}" width="${((value / most) * SCALE).toFixed(1)}" height="8" fill="${colour}"/>`;
    const peer = row.peerValue === undefined ? '' : bar(row.peerValue, 10, COLOURS.peer);
    const beside = row.peer === undefined ? '' : `, ${row.peer} ${shortNumber(row.peerValue ?? 0)}`;
    const label = row.value === null ? 'not measured' : `${shortNumber(row.value)} ${row.unit}${beside}`;
    return `<text x="${LEFT - 8}" y="${y + 13}" text-anchor="end">${escapeXml(row.name)}</text>${bar(row.value ?? 0, 1, row.ok ? COLOURS.ok : COLOURS.short)}${peer}<text x="${LEFT + SCALE + 8}" y="${y + 13}">${escapeXml(label)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="11" fill="#343a40">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="16" y="24" font-size="15">${escapeXml(title)}</text>
${lines.join('\n')}
</svg>
`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
