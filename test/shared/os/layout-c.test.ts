// The table of numbers and struct layouts, asked of a C compiler for each architecture: what the kernel's own headers say, without a machine to run on.
import { spawnSync } from 'node:child_process';
import t from 'tap';
import * as layout from '#shared/os/layout.ts';

const { AF, CMSG, EPOLL, ERRNO, IOVEC, IP, IPV6, LINGER, MSG, MSGHDR, RLIMIT, SO, SOCK, SOL, TCP, TCP_INFO, UCRED } = layout;

const HEADERS = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <linux/tcp.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
`;

const named = (numbers: Record<string, number>, prefix: string): [string, number][] =>
  Object.entries(numbers).map(([name, value]) => [`${prefix}${name}`, value]);
const { ORIGINAL_DST: originalDst, ...ip } = IP;
const { ORIGINAL_DST: originalDst6, ...ipv6 } = IPV6;
const { SOCKET: socketLevel, ...protocols } = SOL;
const { CTL_ADD, CTL_DEL, CTL_MOD, CLOEXEC, ...events } = EPOLL;

const MACROS: [string, number][] = [
  ...named(AF, 'AF_'),
  ...named(SOCK, 'SOCK_'),
  ['SOL_SOCKET', socketLevel],
  ...named(protocols, 'IPPROTO_'),
  ...named(SO, 'SO_'),
  ...named(ip, 'IP_'),
  ...named(ipv6, 'IPV6_'),
  ['SO_ORIGINAL_DST', originalDst],
  ['IP6T_SO_ORIGINAL_DST', originalDst6],
  ...named(TCP, 'TCP_'),
  ...named(MSG, 'MSG_'),
  ...named(events, 'EPOLL'),
  ...named({ CTL_ADD, CTL_DEL, CTL_MOD, CLOEXEC }, 'EPOLL_'),
  ...named(ERRNO, ''),
  ['CLONE_NEWNET', layout.CLONE_NEWNET],
  ['SCM_RIGHTS', layout.SCM_RIGHTS],
  ['RLIMIT_NOFILE', layout.RLIMIT_NOFILE],
  ['MADV_DONTNEED', layout.MADV_DONTNEED],
  ['SHUT_RD', layout.SHUT_RD],
  ['SHUT_WR', layout.SHUT_WR],
  ['SHUT_RDWR', layout.SHUT_RDWR],
  ['F_DUPFD_CLOEXEC', layout.F_DUPFD_CLOEXEC],
  ['sizeof(struct sockaddr_in6)', layout.SOCKADDR_SIZE],
];

const fields = (struct: string, offsets: Record<string, number>): [string, number][] =>
  Object.entries(offsets).map(([field, offset]) =>
    field === 'sizeof' ? [`sizeof(struct ${struct})`, offset] : [`offsetof(struct ${struct}, ${field})`, offset],
  );

function structsOf(arch: NodeJS.Architecture): [string, number][] {
  const event = layout.epollEventOf(arch);
  return [
    ...fields('epoll_event', { sizeof: event.size, data: event.data, events: 0 }),
    ...fields('iovec', { sizeof: IOVEC.size, iov_base: IOVEC.base, iov_len: IOVEC.length }),
    ...fields('msghdr', {
      sizeof: MSGHDR.size,
      msg_iov: MSGHDR.iovecs,
      msg_iovlen: MSGHDR.iovecCount,
      msg_control: MSGHDR.control,
      msg_controllen: MSGHDR.controlLength,
      msg_flags: MSGHDR.flags,
    }),
    ...fields('cmsghdr', { sizeof: CMSG.data, cmsg_len: CMSG.length, cmsg_level: CMSG.level, cmsg_type: CMSG.type }),
    ['CMSG_ALIGN(1)', CMSG.align],
    ...fields('ucred', { sizeof: UCRED.size, pid: UCRED.pid, uid: UCRED.uid, gid: UCRED.gid }),
    ...fields('linger', { sizeof: LINGER.size, l_onoff: LINGER.on, l_linger: LINGER.seconds }),
    ...fields('rlimit', { sizeof: RLIMIT.size, rlim_cur: RLIMIT.soft, rlim_max: RLIMIT.hard }),
    ...fields('tcp_info', {
      tcpi_state: TCP_INFO.state,
      tcpi_snd_mss: TCP_INFO.segmentSize,
      tcpi_unacked: TCP_INFO.unacknowledged,
      tcpi_rtt: TCP_INFO.rtt,
      tcpi_rttvar: TCP_INFO.rttVariance,
      tcpi_snd_cwnd: TCP_INFO.congestionWindow,
      tcpi_total_retrans: TCP_INFO.retransmits,
      tcpi_bytes_acked: TCP_INFO.bytesAcknowledged,
      tcpi_bytes_received: TCP_INFO.bytesReceived,
      tcpi_segs_in: TCP_INFO.segmentsReceived,
      tcpi_notsent_bytes: TCP_INFO.unsent,
      tcpi_min_rtt: TCP_INFO.rttMin,
    }),
  ];
}

/** What the compiler says of a program that is right only if each expression has its number; undefined when there is no such compiler. */
function ask(compiler: string, claims: [string, number][]): string | undefined {
  const asserts = claims.map(
    ([expression, value]) => `_Static_assert((${expression}) == ${value}, "${expression} is not ${value}");`,
  );
  const { error, status, stderr } = spawnSync(compiler, ['-fsyntax-only', '-x', 'c', '-'], {
    input: `${HEADERS}${asserts.join('\n')}\n`,
    encoding: 'utf8',
  });
  if (error) return undefined;
  return status === 0 ? '' : stderr;
}

for (const [arch, triple] of [
  ['x64', 'x86_64-linux-gnu'],
  ['arm64', 'aarch64-linux-gnu'],
] as const) {
  const compiler = arch === process.arch ? 'cc' : `${triple}-gcc`;
  const has = ask(compiler, []) === '';
  t.test(
    `${arch}: the headers say the same`,
    { skip: has ? false : `no ${compiler} with the headers of ${triple}` },
    async (t) => {
      t.equal(ask(compiler, [...MACROS, ...structsOf(arch)]), '');
      const other = structsOf(arch === 'x64' ? 'arm64' : 'x64');
      t.match(ask(compiler, other), /sizeof\(struct epoll_event\) is not/u, 'the other architecture has another layout');
    },
  );
}
