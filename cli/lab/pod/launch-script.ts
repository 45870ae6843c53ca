// The shell text that a container's first process runs: builds the container's view of the file system, then becomes the program.
import type { RootMount } from './root-mounts.ts';

export interface VolumeMount {
  /** On the machine. */
  source: string;
  /** In the container. */
  target: string;
  file: boolean;
  readOnly: boolean;
}

export interface LaunchScript {
  /** An empty folder of this container on the machine. */
  base: string;
  mounts: readonly RootMount[];
  volumes: readonly VolumeMount[];
  hostname: string;
  /** Files that replace /etc/resolv.conf and /etc/hosts. */
  resolvConf: string;
  hosts: string;
  workingDir: string;
  user?: number | undefined;
  group?: number | undefined;
}

/** Where a container keeps what TMPDIR names. */
export const TMPDIR = '/tmp/pod';

/** Found in the command line of a shell that is still preparing a container. */
export const PREPARING = 'culvert-prepares-this-container';

/** Upper bound of what a container may write to its own file system: it lives in memory. */
const WRITABLE = '512m';

/** Run as `sh FILE COMMAND…` in new mount, pid and uts namespaces. */
export function launchScript(spec: LaunchScript): string {
  const root = quote(`${spec.base}/root`);
  return [
    'set -e',
    `mkdir -p ${quote(spec.base)}`,
    `mount -t tmpfs -o mode=0755,size=${WRITABLE} culvert ${quote(spec.base)}`,
    `mkdir ${root}`,
    ...spec.mounts.map((mount, index) => mountLine(spec.base, mount, index)),
    `mount -t proc proc ${root}/proc`,
    `echo ${quote(spec.hostname)} > /proc/sys/kernel/hostname`,
    // By name, as the machine's own may be links to elsewhere.
    `rm -f ${root}/etc/resolv.conf ${root}/etc/hosts`,
    `cp ${quote(spec.resolvConf)} ${root}/etc/resolv.conf`,
    `cp ${quote(spec.hosts)} ${root}/etc/hosts`,
    ...spec.volumes.flatMap((volume, index) => {
      const stage = `${root}/.volumes/${index}`;
      const make = volume.file ? `mkdir -p ${root}/.volumes; : > ${stage}` : `mkdir -p ${stage}`;
      return [make, `mount --bind ${quote(volume.source)} ${stage}`];
    }),
    `exec chroot ${root} sh -c ${quote(innerScript(spec))} "$@"`,
  ].join('\n');
}

/** Inside the new root: volumes go to their places there, so that links like /var/run are followed in the copy. */
function innerScript(spec: LaunchScript): string {
  const become =
    spec.user === undefined && spec.group === undefined
      ? ''
      : `setpriv --clear-groups${spec.group === undefined ? '' : ` --regid ${spec.group}`}${spec.user === undefined ? '' : ` --reuid ${spec.user}`} -- `;
  return [
    `: ${PREPARING}`,
    'set -e',
    ...spec.volumes.flatMap((volume, index) => {
      const target = quote(volume.target);
      const parent = volume.file ? `mkdir -p "$(dirname ${target})"; : >> ${target}` : `mkdir -p ${target}`;
      return [
        parent,
        `mount --bind /.volumes/${index} ${target}`,
        ...(volume.readOnly ? [`mount -o remount,bind,ro ${target}`] : []),
        `umount /.volumes/${index}`,
      ];
    }),
    ...(spec.volumes.length === 0 ? [] : ['rm -r /.volumes']),
    `mkdir -p ${TMPDIR}; chmod 1777 ${TMPDIR}`,
    `cd ${quote(spec.workingDir)}`,
    // As a program of the container sees it: $0 is its own name, and it is process 1 there.
    `exec ${become}"$0" "$@"`,
  ].join('\n');
}

function mountLine(base: string, mount: RootMount, index: number): string {
  const target = quote(mount.path === '/' ? `${base}/root` : `${base}/root${mount.path}`);
  const share = `mount --rbind ${quote(mount.path)} ${target}`;
  if (mount.how === 'share') return share;
  const upper = `${base}/upper${index}`;
  const work = `${base}/work${index}`;
  const layer = `mount -t overlay -o ${quote(`lowerdir=${mount.path},upperdir=${upper},workdir=${work}`)} overlay ${target}`;
  // A file system that cannot be a lower layer (some network and FUSE ones), or a mounted file, is shared.
  return `mkdir ${quote(upper)} ${quote(work)}; ${layer}${mount.path === '/' ? '' : ` 2>/dev/null || ${share}`}`;
}

/** One word for the shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/u.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
