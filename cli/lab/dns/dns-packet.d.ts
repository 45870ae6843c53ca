// The part of dns-packet that is used here; the package has no types of its own.
declare module 'dns-packet' {
  export interface Question {
    name: string;
    type?: string;
    class?: string;
  }
  export interface Answer {
    name: string;
    type: 'A' | 'AAAA' | 'CNAME';
    ttl: number;
    data: string;
  }
  /** EDNS, in both directions. */
  export interface Opt {
    type: 'OPT';
    name: '.';
    udpPayloadSize: number;
    ednsVersion?: number;
    extendedRcode?: number;
    flag_do?: boolean;
    flags?: number;
  }
  export interface Soa {
    type: 'SOA';
    name: string;
    ttl: number;
    data: { mname: string; rname: string; serial: number; minimum: number };
  }
  export interface Packet {
    type?: 'query' | 'response';
    id?: number;
    flags?: number;
    questions?: Question[];
    answers?: Answer[];
    authorities?: Soa[];
    additionals?: Opt[];
    opcode?: string;
    rcode?: string;
    flag_aa?: boolean;
    flag_tc?: boolean;
    flag_rd?: boolean;
    flag_ra?: boolean;
  }
  export const RECURSION_DESIRED: number;
  export function decode(message: Uint8Array): Packet;
  export function encode(packet: Packet): Buffer;
  export function streamDecode(message: Uint8Array): Packet;
  export function streamEncode(packet: Packet): Buffer;
}
