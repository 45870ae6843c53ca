// What a pod sees as its file system: the machine's, copy on write. Two pods that run the same program then do not share its pid
// file, its logs or its cache, and nothing a pod writes reaches the machine.

export interface RootMount {
  path: string;
  /** `layer`: a private copy-on-write layer over it; `share`: the thing itself, with what is mounted below it. */
  how: 'layer' | 'share';
}

/** File systems that are windows into the kernel: not copied, and of use only below /dev and /sys. */
const KERNEL_TYPES = new Set([
  'autofs', 'binfmt_misc', 'bpf', 'cgroup', 'cgroup2', 'configfs', 'debugfs', 'devpts', 'devtmpfs', 'efivarfs', 'fusectl',
  'hugetlbfs', 'mqueue', 'nsfs', 'proc', 'pstore', 'rpc_pipefs', 'securityfs', 'selinuxfs', 'sysfs', 'tracefs',
]); // prettier-ignore

/** Characters that separate options of mount(8). */
const UNSAFE = /[\s,:\\"'$`]/u;

/** From the text of /proc/self/mountinfo; `exclude` are folders whose mounts are the lab's own. Parents come before children. */
export function rootMounts(mountinfo: string, exclude: readonly string[]): RootMount[] {
  const mounts = new Map<string, RootMount>([['/', { path: '/', how: 'layer' }]]);
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const path = unescape(left.split(' ')[4] ?? '');
    const type = right.split(' ')[0] ?? '';
    if (path === '' || path === '/' || below(path, '/proc') || exclude.some((folder) => below(path, folder))) continue;
    if (path === '/dev' || path === '/sys') mounts.set(path, { path, how: 'share' });
    else if (below(path, '/dev') || below(path, '/sys') || KERNEL_TYPES.has(type)) continue;
    else mounts.set(path, { path, how: UNSAFE.test(path) ? 'share' : 'layer' });
  }
  return [...mounts.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function below(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** The kernel writes blanks and backslashes as octal escapes. */
function unescape(text: string): string {
  return text.replaceAll(/\\(\d{3})/gu, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
