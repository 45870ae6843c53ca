// Single modules of node-forge: the whole library would cost every proxy 8 MB. The published types lack what is redeclared here:
// context-specific tags, which are numbers of the structure's own choice, and the options of the parser.
declare module 'node-forge/lib/asn1.js' {
  import type forge from 'node-forge';
  interface ParseOptions {
    strict: boolean;
    parseAllBytes: boolean;
    decodeBitStrings: boolean;
    maxDepth: number;
  }
  const asn1: Omit<typeof forge.asn1, 'create' | 'fromDer'> & {
    create(tagClass: forge.asn1.Class, tag: number, constructed: boolean, value: string | forge.asn1.Asn1[]): forge.asn1.Asn1;
    fromDer(bytes: string, options: ParseOptions): forge.asn1.Asn1;
  };
  export default asn1;
}
