// The growth by number of pods as an SVG picture: two lines over the measured points.
import { megabytes } from './report.ts';
import type { MemoryComparison } from './result.ts';

const WIDTH = 720;
const HEIGHT = 420;
const LEFT = 90;
const RIGHT = 24;
const TOP = 48;
const BOTTOM = 64;
const COLOURS = { ambient: '#0b7285', sidecar: '#c92a2a' };

export function memorySvg({ steps, nodes, services, saving }: MemoryComparison): string {
  const mostPods = Math.max(...steps.map(({ pods }) => pods), 1);
  const mostBytes = Math.max(...steps.flatMap(({ ambient, sidecar }) => [ambient.total, sidecar.total]), 1);
  const x = (pods: number): number => LEFT + (pods / mostPods) * (WIDTH - LEFT - RIGHT);
  const y = (bytes: number): number => HEIGHT - BOTTOM - (bytes / mostBytes) * (HEIGHT - TOP - BOTTOM);
  const line = (mode: 'ambient' | 'sidecar', index: number): string => {
    const points = steps.map((step) => [x(step.pods), y(step[mode].total)] as const);
    const dots = points.map(([cx, cy]) => `<circle cx="${round(cx)}" cy="${round(cy)}" r="4" fill="${COLOURS[mode]}"/>`).join('');
    const path = `<polyline fill="none" stroke="${COLOURS[mode]}" stroke-width="2.5" points="${points.map(([px, py]) => `${round(px)},${round(py)}`).join(' ')}"/>`;
    const key = `<rect x="${LEFT + 12 + index * 110}" y="${TOP - 14}" width="12" height="12" fill="${COLOURS[mode]}"/><text x="${LEFT + 30 + index * 110}" y="${TOP - 3}">${mode}</text>`;
    return path + dots + key;
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = round(y(mostBytes * share));
    return `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}" stroke="#dee2e6"/><text x="${LEFT - 8}" y="${at + 4}" text-anchor="end">${megabytes(mostBytes * share)}</text>`;
  });
  const marks = steps.map(
    ({ pods }) => `<text x="${round(x(pods))}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${pods}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13" fill="#343a40">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
<text x="${LEFT}" y="22" font-size="16">Memory of the mesh by number of pods (${nodes} nodes, ${services} services)${saving.total > 0 ? `: saving ${(saving.total * 100).toFixed(0)} %` : ''}</text>
${ticks.join('\n')}
${marks.join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 16}" text-anchor="middle">pods</text>
${line('ambient', 0)}
${line('sidecar', 1)}
</svg>
`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
