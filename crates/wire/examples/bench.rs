#![allow(warnings)]
use std::time::*; use tidegate_core::{ids::*,ledger::*,rates::*}; use tidegate_wire::*;
fn main(){
 let m=Measurement{sample:Sample{high_watermark:Position(123456789),log_start:Position(1234567),size:Some(123456789),leader:1},window:Duration::from_secs(30),write_rate:1234567,filtered_rate:1234567,records_per_sec:1234,bytes_per_record:Some(1000),staleness:Duration::ZERO,source:Source::LogSize};
 let r=PartitionRates::of(RatesOf{topic:"orders".into(),topic_id:TopicId([7;16]),partitions:20000,sampled_unix_ms:1},TopicReport{full:true,rates:(0..20000).map(|n|(n,m)).collect(),missing:Default::default()});
 let t=Instant::now(); let e=encode_rates(&r); println!("encode 20k rates {:?} {} B",t.elapsed(),e.size());
 let t=Instant::now(); decode_rates(&e.header_refs(),e.value.as_deref()).unwrap(); println!("decode {:?}",t.elapsed());
 let t=Instant::now(); let p=encode_rates_in_parts(&r,900_000); println!("parts {} {:?}",p.len(),t.elapsed());
 let f=(0..1000).map(|n|PartitionFigures{partition:PartitionId{topic:TopicId([7;16]),number:n},records:123456,bytes:123456789,busy_us:1234567,lag:Some(12)}).collect();
 let h=Entry{generation:Generation(1),record:Record::Heartbeat{incarnation:Incarnation(Offset(1)),seq:1,heard:Offset(2),figures:f}};
 let t=Instant::now(); let e=encode_entry(&h); println!("heartbeat 1000 partitions enc {:?} {} B",t.elapsed(),e.size());
 let t=Instant::now(); for _ in 0..100 {decode_entry(&e.header_refs(),e.value.as_deref()).unwrap();} println!("dec {:?}",t.elapsed()/100);
 let h=Entry{generation:Generation(1),record:Record::Heartbeat{incarnation:Incarnation(Offset(1)),seq:1,heard:Offset(2),figures:vec![]}};
 let t=Instant::now(); for _ in 0..10000 {let e=encode_entry(&h);decode_entry(&e.header_refs(),e.value.as_deref()).unwrap();} println!("small enc+dec {:?}",t.elapsed()/10000);
}
