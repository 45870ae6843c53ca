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
  export interface Packet {
    type?: 'query' | 'response';
    id?: number;
    flags?: number;
    questions?: Question[];
    answers?: Answer[];
    rcode?: string;
  }
  export const RECURSION_DESIRED: number;
  export function decode(message: Uint8Array): Packet;
  export function encode(packet: Packet): Buffer;
  export function streamDecode(message: Uint8Array): Packet;
  export function streamEncode(packet: Packet): Buffer;
}
